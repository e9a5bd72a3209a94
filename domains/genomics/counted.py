"""Rank figures of rows that a bootstrap draws several times or not at all, without sorting anew.

Drawing rows with replacement is counting each of them so many times; ranks of counted rows follow
from one sort of all by a running sum. Shapes: n rows.
"""

from __future__ import annotations

import numpy as np


class CountedRanks:
    """Ranks, 1 for the lowest, of numbers each of which stands there `times` times; ties have the
    mean of their places."""

    def __init__(self, numbers: np.ndarray) -> None:
        """numbers: float [n], finite."""
        values, self._tie = np.unique(numbers, return_inverse=True)
        self._ties = len(values)

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """float64 [n]: the rank of each; what it is of a number that stands there no time says
        nothing."""
        count = np.bincount(self._tie, weights=times, minlength=self._ties)
        return (np.cumsum(count) - (count - 1) / 2)[self._tie]


class CountedSpearman:
    """`figures.spearman` of rows each counted `times` times (integers >= 0, [n])."""

    def __init__(self, label: np.ndarray, score: np.ndarray) -> None:
        self._ranks = CountedRanks(label), CountedRanks(score)

    def __call__(self, times: np.ndarray) -> float:
        middle = (times.sum() + 1) / 2
        one, other = (ranks(times) - middle for ranks in self._ranks)
        spread = (times * one**2).sum() * (times * other**2).sum()
        return float((times * one * other).sum() / np.sqrt(spread)) if spread > 0 else 0.0


class CountedAuroc:
    """`figures.auroc` of rows each counted `times` times (integers >= 0, [n]), from the rank sum of
    the positives (Mann and Whitney 1947)."""

    def __init__(self, label: np.ndarray, score: np.ndarray) -> None:
        self._positive, self._ranks = label == 1, CountedRanks(score)

    def __call__(self, times: np.ndarray) -> float:
        positives = times * self._positive
        count = positives.sum()
        others = times.sum() - count
        if count == 0 or others == 0:
            return float("nan")
        above = (positives * self._ranks(times)).sum() - count * (count + 1) / 2
        return float(above / (count * others))
