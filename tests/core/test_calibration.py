"""Platt scaling recovers the sigmoid that made the labels."""

from __future__ import annotations

import numpy as np
import pytest

from core.calibration import Calibration, fit_platt
from core.errors import LongstrandError


def test_platt_recovers_slope_and_intercept() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=200_000)
    label = rng.random(raw.size) < 1 / (1 + np.exp(-(0.7 * raw - 2)))
    fitted = fit_platt(raw, label)
    assert fitted.slope == pytest.approx(0.7, abs=0.03)
    assert fitted.intercept == pytest.approx(-2, abs=0.03)
    assert fitted.apply(raw).mean() == pytest.approx(label.mean(), rel=1e-3)


def test_a_calibration_survives_its_dictionary() -> None:
    fitted = Calibration("platt", 0.5, -3.0)
    assert Calibration.from_dict(fitted.to_dict()) == fitted
    with pytest.raises(LongstrandError, match="expected identity or platt"):
        Calibration.from_dict({"kind": "other"})


def test_one_class_leaves_the_sigmoid_of_the_logit() -> None:
    fitted = fit_platt(np.array([0.0, 1.0]), np.array([0, 0]))
    assert fitted.apply(np.array([0.0]))[0] == 0.5
