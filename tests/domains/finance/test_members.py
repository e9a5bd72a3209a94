"""Several trainings in one bundle: their mean is what is calibrated, kept and scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from core.bundle import begin_from, restore
from core.errors import ConfigError
from domains.finance import domain
from domains.finance.model import FraudModule
from pipelines.learn import SEEDS_APART, learn
from tests.domains.finance.conftest import ENCODER


def _bundle(bundle: SimpleNamespace, state: dict[str, torch.Tensor]) -> Any:
    return SimpleNamespace(**{**vars(bundle), "state_dict": lambda: state, "path": Path("here")})


@pytest.fixture(scope="module")
def pair(task, tokenizer) -> list[FraudModule]:
    """Two networks, differently begun."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(task.module(tokenizer, ENCODER).eval())
    return found


@pytest.fixture(scope="module")
def both(bundle, pair) -> SimpleNamespace:
    return _bundle(bundle, pair[0].ensemble(pair).state_dict())


def test_members_differ_in_their_seed_and_are_averaged(lesson, fold, task, source, bundle) -> None:
    learn(lesson(fold, "both", members=2))
    alone = [lesson(fold, f"seed-{seed}", seed=seed) for seed in (0, SEEDS_APART)]
    for one in alone:
        learn(one)
    folder = lesson(fold, "both").folder
    mean = pl.read_parquet(folder / "test.parquet")["raw"]
    raw = [pl.read_parquet(one.folder / "test.parquet")["raw"] for one in alone]
    assert not raw[0].equals(raw[1])
    np.testing.assert_allclose(mean, (raw[0] + raw[1]) / 2, atol=1e-5)
    kept = _bundle(bundle, load_file(str(folder / "model.safetensors")))
    tokenizer, module = restore(kept, task)
    assert task.predict(module, source, tokenizer, fold.test)["raw"].equals(mean)


def test_a_refit_refits_every_member(lesson, config, source) -> None:
    task = domain.task(replace(config, split=replace(config.split, refit=True)))
    short = lesson(task.folds(source)[0], "refit", members=2)
    learn(short)
    checkpoints = sorted(p.parent for p in short.folder.rglob("last.ckpt"))
    names = ("", "member-1", "refit", "refit/member-1")
    assert checkpoints == [short.folder / name for name in names]


def test_files_are_scored_by_the_mean(task, bundle, pair, both, config, tmp_path) -> None:
    found = []
    for one in (*(_bundle(bundle, module.state_dict()) for module in pair), both):
        scorer = task.scorer(one, domain.open(config, "score", input=Path(config.data.path)))
        (part,) = scorer.prepare(tmp_path)
        score = scorer.score(part, None)[0]["fraud_score"].to_numpy()
        found.append(np.log(score / (1 - score)))
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=1e-4)


def test_a_training_begins_from_no_ensemble(task, both) -> None:
    with pytest.raises(ConfigError, match="2 members"):
        begin_from(both, task, ENCODER, *task.take_over(both, None, None))


def test_modules_without_a_mean_are_refused_before_training(
    lesson, fold, monkeypatch, tmp_path
) -> None:
    monkeypatch.delattr(FraudModule, "ensemble")
    with pytest.raises(ConfigError, match="cannot be averaged"):
        learn(lesson(fold, "refused", members=2))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_no_members_are_refused(lesson, fold) -> None:
    with pytest.raises(ConfigError, match="found 0, expected 1"):
        learn(lesson(fold, "none", members=0))
