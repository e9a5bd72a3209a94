"""How far the probabilities of held-out alleles lie from what came true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from core.calibration import Calibration, expected_calibration_error
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig


def _predictions(shift: float) -> pl.DataFrame:
    """2,000 alleles in 20 groups whose logit is right but for `shift`."""
    draw = np.random.default_rng(0)
    logit = draw.normal(size=2000)
    label = (draw.random(2000) < 1 / (1 + np.exp(-logit))).astype(float)
    group = [f"g{i % 20}" for i in range(2000)]
    return pl.DataFrame({"row": range(2000), "label": label, "raw": logit + shift, "group": group})


def test_error_is_the_mean_distance_of_bins_from_what_came_true() -> None:
    score = np.repeat([0.0, 0.5, 1.0], 100)
    label = np.repeat([0.0, 0.0, 1.0], 100)
    assert expected_calibration_error(label, score) == pytest.approx(1 / 6)
    assert expected_calibration_error(label, label) == 0


def test_classes_have_the_error_of_their_calibrated_probability_and_floors_and_numbers_none(
    simulated: GenomicsConfig,
) -> None:
    config = replace(
        simulated, data=replace(simulated.data, label_kind="classification", positive=["1"])
    )
    task, source = domain.task(config), domain.open(simulated, "train")
    found = {}
    for shift, calibration in ((0.0, Calibration("platt")), (2.0, Calibration("platt"))):
        raw = _predictions(shift)
        scored = raw.with_columns(score=pl.Series(calibration.apply(raw["raw"].to_numpy())))
        decided = task.decide(scored, calibration)
        metrics = {m.metric: m for m in task.metrics(source, decided)}
        found[shift] = metrics["calibration_error"]
        assert found[shift].low < found[shift].high
        assert "calibration_error" not in {m.metric for m in task.metrics(source, scored)}
    assert found[0.0].value < 0.05 and found[2.0].low > 0.2
    numbers = domain.task(simulated)
    assert numbers.decide(scored, Calibration()).columns == scored.columns
