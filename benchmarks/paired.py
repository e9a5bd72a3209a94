"""Figures of several models on the same held-out rows, and differences between them, with 95 %
intervals from one bootstrap of whole groups (blocks, exons): a draw is the same for all models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Figure = Callable[[np.ndarray, np.ndarray], float]
DRAWS = 200


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def estimates(
    label: np.ndarray,
    group: np.ndarray,
    scores: Mapping[str, np.ndarray],
    figure: Figure,
    differences: tuple[tuple[str, str], ...] = (),
    draws: int = DRAWS,
) -> dict[str, Estimate]:
    """Of each model, and as `"a - b"` of each pair of models.

    Args:
        label: float [n].
        group: [n], what is resampled together.
        scores: float [n] a model.
        figure: of (label, score); nan where it has none, such as for one class only.
    """
    _, place = np.unique(group, return_inverse=True)
    rows_of = [np.flatnonzero(place == g) for g in range(place.max() + 1)]
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(draws):
        rows = np.concatenate([rows_of[g] for g in draw.integers(0, len(rows_of), len(rows_of))])
        for name, score in scores.items():
            found[name].append(figure(label[rows], score[rows]))
    drawn = {name: np.array(values) for name, values in found.items()}
    values = {name: figure(label, score) for name, score in scores.items()}
    out = {name: _estimate(values[name], drawn[name]) for name in scores}
    for a, b in differences:
        out[f"{a} - {b}"] = _estimate(values[a] - values[b], drawn[a] - drawn[b])
    return out


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    # A draw of one class has no figure.
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
