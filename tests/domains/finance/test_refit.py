"""A model that is calibrated before it learns from the newest labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from core.contract import Fold
from domains.finance import domain
from pipelines.learn import learn, trained


@pytest.fixture(scope="module")
def refit(config, source) -> Fold:
    return domain.task(replace(config, split=replace(config.split, refit=True))).folds(source)[0]


def test_the_refit_learns_from_every_label_known_when_the_test_begins(
    config, source, fold, refit
) -> None:
    before = datetime.fromisoformat(config.split.train_before).replace(tzinfo=UTC)
    older = source.events.filter((pl.col("time") < before) & pl.col("label").is_not_null())
    assert sorted(refit.refit) == sorted(older["row"])
    tested = source.events.filter(pl.col("row").is_in(refit.test.implode()))["time"].min()
    assert older["time"].max() + timedelta(microseconds=source.schema.label_delay) <= tested
    for part in ("train", "validation", "test"):
        assert getattr(refit, part).equals(getattr(fold, part))


def test_the_bundle_says_that_it_has_seen_the_newest_labels(task, source, refit) -> None:
    seen = task.seen_rows(source, task.label_intervals(source, refit))
    assert sorted(seen) == sorted(refit.refit)
    assert len(seen) > len(refit.train) + len(refit.validation)


def test_the_weights_are_of_all_rows_and_the_calibration_is_of_the_first(
    lesson, fold, refit
) -> None:
    learn(lesson(fold, "first"))
    learn(lesson(refit, "refit"))
    _, alone = trained(lesson(replace(refit, train=refit.refit), "alone"))
    first, again = (lesson(fold, name).folder for name in ("first", "refit"))
    assert (first / "calibration.json").read_bytes() == (again / "calibration.json").read_bytes()
    weights = load(again)
    assert weights.keys() == alone.state_dict().keys()
    assert all(weights[n].equal(t) for n, t in alone.state_dict().items())
    assert not all(weights[n].equal(t) for n, t in load(first).items())


def test_a_refit_that_broke_off_goes_on_to_the_same_weights(lesson, refit, task, monkeypatch):
    learn(lesson(refit, "whole"))
    loader = task.loader

    def ending(source, tokenizer, rows, seed, steps):
        found = loader(source, tokenizer, rows, seed, steps)
        batch_at = found.batch_at
        if len(rows) == len(refit.refit):
            found.batch_at = lambda k: batch_at(k) if k < 5 else (_ for _ in ()).throw(Broken)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(task, "loader", ending)
        with pytest.raises(Broken):
            learn(lesson(refit, "broken"))
    whole, broken = (lesson(refit, name).folder for name in ("whole", "broken"))
    assert (broken / "refit" / "last.ckpt").is_file()
    learn(lesson(refit, "broken"))
    for name in ("model.safetensors", "calibration.json", "tokenizer.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


class Broken(Exception):
    """The machine went away."""


def load(folder: Path):
    from safetensors.torch import load_file

    return load_file(str(folder / "model.safetensors"))
