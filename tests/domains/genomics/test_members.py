"""Several trainings in one bundle: an effect is the mean of theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from core.bundle import load_bundle, restore
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.source import LabelledSource


def test_an_ensemble_predicts_the_mean_of_its_members(
    bundle: Path, simulated: GenomicsConfig
) -> None:
    source, task = domain.open(simulated, "train"), domain.task(simulated)
    assert isinstance(source, LabelledSource)
    rows, kept = task.folds(source)[0].test.head(200), load_bundle(bundle)
    tokenizer, first = restore(kept, task)
    torch.manual_seed(1)
    second = task.module(tokenizer, kept.encoder)
    state: dict[str, Any] = first.ensemble([first, second]).state_dict()
    both = SimpleNamespace(
        config={}, tokenizer=kept.tokenizer, encoder=kept.encoder, state_dict=lambda: state
    )
    _, mean = restore(cast(Any, both), task)
    raw = [
        task.predict(module, source, tokenizer, rows)["raw"].to_numpy()
        for module in (first, second, mean)
    ]
    assert not np.allclose(raw[0], raw[1], atol=1e-3)
    np.testing.assert_allclose(raw[2], (raw[0] + raw[1]) / 2, atol=1e-5)
