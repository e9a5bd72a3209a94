"""Calibrations recover the probabilities that made the labels."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from core.calibration import Calibration, fit_platt
from core.errors import LongstrandError
from core.isotonic import fit_isotonic


def test_platt_recovers_slope_and_intercept() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=200_000)
    label = rng.random(raw.size) < 1 / (1 + np.exp(-(0.7 * raw - 2)))
    fitted = fit_platt(raw, label)
    assert fitted.slope == pytest.approx(0.7, abs=0.03)
    assert fitted.intercept == pytest.approx(-2, abs=0.03)
    assert fitted.apply(raw).mean() == pytest.approx(label.mean(), rel=1e-3)


def test_a_calibration_survives_its_dictionary() -> None:
    fitted = [
        Calibration("platt", 0.5, -3.0),
        Calibration("isotonic", knots=((-1.0, 0.1), (2.0, 0.7))),
    ]
    for one in fitted:
        assert Calibration.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    with pytest.raises(LongstrandError, match="expected identity, platt, isotonic"):
        Calibration.from_dict({"kind": "other"})


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_one_class_leaves_the_sigmoid_of_the_logit(fit: Callable[..., Calibration]) -> None:
    fitted = fit(np.array([0.0, 1.0]), np.array([0, 0]))
    assert fitted.apply(np.array([0.0]))[0] == 0.5


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_both_give_probabilities_that_keep_the_order(fit: Callable[..., Calibration]) -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(scale=3, size=5000)
    label = rng.random(raw.size) < 1 / (1 + np.exp(2 - raw))
    score = fit(raw, label).apply(np.array([-1e9, *np.sort(raw), 1e9]))
    assert score[0] >= 0 and score[-1] <= 1
    assert (np.diff(score) >= 0).all()
    inner = score[1:-1]
    assert inner.mean() == pytest.approx(label.mean(), rel=0.02)


def test_isotonic_follows_a_shape_that_no_sigmoid_has() -> None:
    """Log-odds that focal loss has bent, say: a step, then level."""
    rng = np.random.default_rng(2)
    raw = rng.uniform(-3, 3, 100_000)
    chance = np.where(raw < 0, 0.02, 0.3)
    label = rng.random(raw.size) < chance
    errors = {
        fit: np.abs(fit(raw, label).apply(raw) - chance).mean() for fit in (fit_platt, fit_isotonic)
    }
    assert errors[fit_isotonic] < 0.01 < errors[fit_platt]
