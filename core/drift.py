"""Drift: how far new rows lie from the rows that a model learned from.

A reference is what a bundle carries of those rows: shares of bins, quantiles and the mean of every
field, no row itself. PSI is the population stability index, sum of (now - before) * ln(now /
before) over ten bins of equal counts before; KS is the largest distance between the two
distribution functions (scipy.stats.ks_2samp).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import polars as pl
from scipy.stats import ks_2samp

from core.errors import LongstrandError

BINS = 10
QUANTILES = 200
"""KS is known to about one part in as many."""

NAMED = 50
"""The most frequent values of a category keep their names; the rest count as `OTHER`."""

OTHER = "(other)"
SMALL = 1e-4
"""Least share of a bin, so that an empty one has a logarithm."""

MOVED, DRIFTED = 0.1, 0.25
"""PSI from which a field has moved, and drifted: the rule of thumb of credit scoring (Siddiqi
2006)."""


@dataclass(frozen=True)
class Reference:
    """One field before.

    Args:
        field: its name.
        rows: how many there were.
        missing: share of them without a value.
        mean: of the numbers; None for a category.
        edges: [bins - 1] inner borders of the bins of a number, rising.
        quantiles: [QUANTILES] of a number, evenly spaced, without the extremes.
        shares: of each bin, or of each named value of a category.
        values: the named values of a category, OTHER last.
    """

    field: str
    rows: int
    missing: float
    mean: float | None
    edges: Sequence[float]
    quantiles: Sequence[float]
    shares: Sequence[float]
    values: Sequence[str]

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Reference:
        names = set(Reference.__dataclass_fields__)
        if set(state) != names:
            raise LongstrandError(
                f"reference.json: found the keys {', '.join(sorted(state))}, expected "
                f"{', '.join(sorted(names))}; the bundle was written by another version: retrain it"
            )
        return Reference(**state)


@dataclass(frozen=True)
class Drift:
    """One field before and now. `psi` and `ks` are None where either side has no value; `ks` of a
    category too."""

    field: str
    rows: int
    missing_before: float
    missing: float
    mean_before: float | None
    mean: float | None
    psi: float | None
    ks: float | None

    @property
    def level(self) -> str:
        """stable, moved, drifted or unknown, by PSI."""
        if self.psi is None:
            return "unknown"
        return "drifted" if self.psi > DRIFTED else "moved" if self.psi > MOVED else "stable"


def references(fields: pl.DataFrame) -> list[dict[str, Any]]:
    """Every column of `fields` (numbers, or text for categories) as plain JSON types."""
    return [asdict(_reference(fields[name])) for name in fields.columns]


def compare(before: Sequence[Mapping[str, Any]], fields: pl.DataFrame) -> list[Drift]:
    """Drift of each field of `before` that `fields` has too, in the order of `before`."""
    known = [Reference.from_dict(state) for state in before]
    return [_drift(old, fields[old.field]) for old in known if old.field in fields.columns]


def _reference(values: pl.Series) -> Reference:
    present = _present(values)
    missing = 1 - len(present) / max(1, len(values))
    if values.dtype == pl.String:
        counts = present.value_counts(sort=True).sort(
            ["count", values.name], descending=[True, False]
        )
        named = counts[values.name].head(NAMED).to_list()
        shares = _category_shares(present, named)
        return Reference(
            values.name, len(values), missing, None, [], [], shares.tolist(), [*named, OTHER]
        )
    numbers = present.cast(pl.Float64).to_numpy()
    if not len(numbers):
        return Reference(values.name, len(values), missing, None, [], [], [], [])
    inner = np.quantile(numbers, np.arange(1, BINS) / BINS, method="nearest")
    edges = np.unique(inner)
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES
    quantiles = np.quantile(numbers, places, method="nearest")
    return Reference(
        values.name,
        len(values),
        missing,
        float(numbers.mean()),
        edges.tolist(),
        quantiles.tolist(),
        _bin_shares(numbers, edges).tolist(),
        [],
    )


def _drift(old: Reference, values: pl.Series) -> Drift:
    present = _present(values)
    missing = 1 - len(present) / max(1, len(values))
    mean = psi = ks = None
    if old.values:
        if len(present) and old.missing < 1:
            psi = _psi(np.array(old.shares), _category_shares(present, old.values[:-1]))
    elif len(present):
        numbers = present.cast(pl.Float64).to_numpy()
        mean = float(numbers.mean())
        if old.quantiles:
            psi = _psi(np.array(old.shares), _bin_shares(numbers, np.array(old.edges)))
            ks = float(cast(Any, ks_2samp(numbers, old.quantiles, method="asymp")).statistic)
    return Drift(old.field, len(values), old.missing, missing, old.mean, mean, psi, ks)


def _present(values: pl.Series) -> pl.Series:
    kept = values.drop_nulls()
    return kept.drop_nans() if kept.dtype.is_float() else kept


def _bin_shares(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    places = np.searchsorted(edges, numbers, side="left")
    return np.bincount(places, minlength=len(edges) + 1) / len(numbers)


def _category_shares(present: pl.Series, named: Sequence[str]) -> np.ndarray:
    """[len(named) + 1]: the last is of all other values."""
    counts = dict(present.value_counts().iter_rows())
    known = [counts.get(name, 0) for name in named]
    return np.array([*known, len(present) - sum(known)]) / max(1, len(present))


def _psi(before: np.ndarray, now: np.ndarray) -> float:
    before, now = np.maximum(before, SMALL), np.maximum(now, SMALL)
    return float(np.sum((now - before) * np.log(now / before)))
