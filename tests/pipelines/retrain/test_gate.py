"""A challenger passes when it is surely better, and nowhere worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from core.contract import Yardstick
from core.errors import ConfigError
from pipelines.retrain.gate import Gate, Verdict, alone, judge

ROWS = 600
GROUPS = np.repeat(np.arange(60), 10)
FIRST = np.arange(ROWS) < ROWS // 2


def _mean(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda weight: float(np.average(values, weights=weight))


def _model(right: float, first: float | None = None, calibration: float = 0.1) -> Yardstick:
    """A model that is right on a share of the rows, on another share of the first half."""
    rng = np.random.default_rng(1)
    draw = rng.random(ROWS)
    hits = draw < np.where(FIRST, right if first is None else first, right)
    figures = {"accuracy": _mean(hits.astype(float)), "constant": _mean(np.ones(ROWS))}
    error = _mean(np.full(ROWS, calibration))
    return Yardstick(figures, error, GROUPS, {"first": FIRST, "second": ~FIRST})


def test_a_better_challenger_passes() -> None:
    verdict = judge(_model(0.6), _model(0.8), Gate())
    assert verdict.better
    assert 0 < verdict.comparisons[0].low < verdict.comparisons[0].gain
    assert Verdict.from_dict(verdict.to_dict()) == verdict


@pytest.mark.parametrize("right", [0.6, 0.4])
def test_an_equal_or_worse_one_does_not(right: float) -> None:
    verdict = judge(_model(0.6), _model(right), Gate())
    assert not verdict.better
    assert "is not above gate.min_gain=0" in verdict.reason


def test_a_gain_below_the_least_is_none() -> None:
    assert not judge(_model(0.6), _model(0.8), Gate(min_gain=0.3)).better


def test_no_gain_makes_up_for_a_worse_calibration() -> None:
    worse = _model(0.8, calibration=0.2)
    verdict = judge(_model(0.6), worse, Gate(calibration_slack=0.05))
    assert not verdict.better
    assert "the calibration error rises from 0.1000 to 0.2000" in verdict.reason
    assert judge(_model(0.6), worse, Gate(calibration_slack=0.15)).better


def test_no_gain_makes_up_for_a_failed_slice() -> None:
    verdict = judge(_model(0.6), _model(0.98, first=0.4), Gate())
    assert verdict.comparisons[0].low > 0
    assert not verdict.better
    assert "slice first: accuracy falls" in verdict.reason


def test_more_confidence_asks_for_more() -> None:
    champion, challenger = _model(0.6), _model(0.64)
    wide, narrow = (judge(champion, challenger, Gate(confidence=c)) for c in (0.9999, 0.5))
    assert wide.comparisons[0].low < narrow.comparisons[0].low


def test_groups_are_drawn_as_one() -> None:
    rows = Yardstick(_model(0.8).figures, _mean(np.zeros(ROWS)), np.arange(ROWS), {})
    few = Yardstick(rows.figures, rows.calibration, (np.arange(ROWS) // 200), {})
    theirs = _model(0.6)
    gains = [judge(theirs, model, Gate()).comparisons[0] for model in (rows, few)]
    assert gains[0].gain == gains[1].gain
    assert gains[0].low != gains[1].low


def test_without_a_champion_anything_passes() -> None:
    verdict = alone(_model(0.3), Gate(metric="constant"))
    assert verdict.better
    assert (verdict.metric, verdict.value) == ("constant", 1.0)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of accuracy, constant"):
        judge(_model(0.5), _model(0.5), Gate(metric="acuracy"))


@pytest.mark.parametrize("bad", [{"confidence": 1.0}, {"repeats": 5}, {"min_gain": -1}])
def test_a_gate_out_of_range_is_refused(bad: dict) -> None:
    with pytest.raises(ConfigError, match=f"gate.{next(iter(bad))}"):
        Gate(**bad)
