"""How rare a number is: its rank on a validation slice, and a straight line beyond the ranks.

What nobody labelled may hold anomalies, in the validation slice too. So only its first 99 percent
set the ranks; what lies beyond is placed by the slope that leads there, and a slice with a few
anomalies does not make them usual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LEVELS = np.linspace(0.0, 2.0, 41)
"""Minus log10 of the share of rows at or above: from all of them to one in a hundred."""


@dataclass(frozen=True)
class Tail:
    """Levels of rising raw numbers.

    Args:
        name: of what the numbers measure.
        raw: [k] strictly rising.
        level: [k] minus log10 of the share of validation rows with at least that raw number.
        slope: level a raw unit beyond the last.
    """

    name: str
    raw: list[float]
    level: list[float]
    slope: float

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """[n] -> [n] levels; 3 is one row in a thousand."""
        beyond = np.maximum(raw - self.raw[-1], 0) * self.slope
        return np.interp(raw, self.raw, self.level) + beyond

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Tail:
        return Tail(
            str(state["name"]), list(state["raw"]), list(state["level"]), float(state["slope"])
        )


def fit_tail(name: str, raw: np.ndarray) -> Tail:
    """Of [n] validation rows, at least one; raw numbers are in nats.

    Beyond the ranks the level rises as from one row in ten to one in a hundred, and never faster
    than the nats themselves claim: a decade is 2.3 of them.
    """
    knots = np.quantile(raw, 1 - 10.0**-LEVELS)
    # Of equal numbers the first: that many rows have at least as much.
    first = np.append(True, np.diff(knots) > 0)
    near, far = np.interp([1.0, 2.0], LEVELS, knots)
    slope = 1 / max(far - near, math.log(10))
    return Tail(name, knots[first].tolist(), LEVELS[first].tolist(), float(slope))
