"""The gate: whether a challenger takes the champion's place.

Both are measured on the same rows. The interval of a difference comes from a paired bootstrap:
each draw takes the same groups for both (Efron & Tibshirani 1993, chapter 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.contract import Yardstick
from core.errors import ConfigError

Figure = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Gate:
    """What counts as better.

    Args:
        metric: name of a figure of the task; None takes its first.
        min_gain: the lower end of the gain's interval must lie above it.
        confidence: of every interval, two-sided.
        calibration_slack: by how much the calibration error may rise.
        repeats: draws of the bootstrap.
    """

    metric: str | None = None
    min_gain: float = 0.0
    confidence: float = 0.95
    calibration_slack: float = 0.05
    repeats: int = 400

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ConfigError(f"gate.confidence: found {self.confidence}, expected 0 < it < 1")
        if self.repeats < 100:
            raise ConfigError(f"gate.repeats: found {self.repeats}, expected at least 100")
        for name in ("min_gain", "calibration_slack"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"gate.{name}: found {getattr(self, name)}, expected 0 or more")


@dataclass(frozen=True)
class Comparison:
    """One figure of both models and the interval of the difference, challenger less champion."""

    name: str
    champion: float
    challenger: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger is better, and why.

    Args:
        metric, value: the figure that counts and the challenger's.
        comparisons: the metric, the calibration error, and the metric on each slice; none where
            there is no champion.
    """

    better: bool
    reason: str
    metric: str
    value: float
    comparisons: list[Comparison]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(state: dict[str, Any]) -> Verdict:
        return Verdict(**{**state, "comparisons": [Comparison(**c) for c in state["comparisons"]]})


def judge(champion: Yardstick, challenger: Yardstick, gate: Gate) -> Verdict:
    """Compare two models by yardsticks of the same rows in the same order.

    Raises:
        ConfigError: the task has no figure of the name `gate.metric`.
    """
    name = metric_of(challenger, gate)
    ours, theirs = challenger.figures[name], champion.figures[name]
    rows = np.ones(len(challenger.groups))
    bench = _Bench(_draws(challenger.groups, gate.repeats), rows, gate.confidence)
    metric = bench.compare(name, theirs, ours)
    calibration = bench.compare("calibration error", champion.calibration, challenger.calibration)
    slices = [
        bench.compare(part, _within(theirs, where), _within(ours, where))
        for part, where in challenger.slices.items()
    ]
    reason = _objection(metric, calibration, slices, gate)
    won = f"{name} rises by {metric.gain:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
    compared = [metric, calibration, *slices]
    return Verdict(reason is None, reason or won, name, metric.challenger, compared)


def metric_of(yardstick: Yardstick, gate: Gate) -> str:
    """The figure that counts."""
    names = list(yardstick.figures)
    if gate.metric is None:
        return names[0]
    if gate.metric not in names:
        raise ConfigError(f"gate.metric: found {gate.metric!r}, expected one of {', '.join(names)}")
    return gate.metric


def alone(challenger: Yardstick, gate: Gate) -> Verdict:
    """Where there is no champion, whatever has learned is better than nothing."""
    name = metric_of(challenger, gate)
    value = float(challenger.figures[name](np.ones(len(challenger.groups))))
    return Verdict(True, "there is no champion yet", name, value, [])


def _objection(
    metric: Comparison, calibration: Comparison, slices: list[Comparison], gate: Gate
) -> str | None:
    """Why the challenger is kept out; None where nothing speaks against it."""
    if not metric.low > gate.min_gain:
        return (
            f"{metric.name} changes by {metric.gain:.4f}, and its {gate.confidence:.0%} interval "
            f"[{metric.low:.4f}, {metric.high:.4f}] is not above gate.min_gain={gate.min_gain:g}"
        )
    if calibration.gain > gate.calibration_slack:
        return (
            f"the calibration error rises from {calibration.champion:.4f} to "
            f"{calibration.challenger:.4f}, by more than gate.calibration_slack="
            f"{gate.calibration_slack:g}"
        )
    for part in slices:
        if part.high < 0:
            return (
                f"slice {part.name}: {metric.name} falls by {-part.gain:.4f} "
                f"[{-part.high:.4f}, {-part.low:.4f}]"
            )
    return None


@dataclass(frozen=True)
class _Bench:
    """Row weights of every draw, [repeats, groups] by group and [n] places of groups."""

    draws: tuple[np.ndarray, np.ndarray]
    rows: np.ndarray
    confidence: float

    def compare(self, name: str, champion: Figure, challenger: Figure) -> Comparison:
        counts, place = self.draws
        gains = [challenger(w) - champion(w) for w in (count[place] for count in counts)]
        tail = (1 - self.confidence) / 2
        # A draw without a positive row has no figure.
        low, high = np.nanquantile(gains, [tail, 1 - tail])
        theirs, ours = float(champion(self.rows)), float(challenger(self.rows))
        return Comparison(name, theirs, ours, ours - theirs, float(low), float(high))


def _draws(groups: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(repeats)]
    return np.array(drawn, dtype=np.float64), place


def _within(figure: Figure, where: np.ndarray) -> Figure:
    return lambda weight: figure(weight * where)
