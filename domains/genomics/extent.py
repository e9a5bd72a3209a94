"""Which bases labelled alleles lie on, and how far apart they are."""

from __future__ import annotations

import numpy as np
import polars as pl


def extents(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """First and last base (0-based, both included) of each allele, int64 [n]; of an insertion the
    bases on both sides of it.

    Args:
        rows: pos and, where some are no single-base substitutions, end (null of those that are).
    """
    pos = rows["pos"].to_numpy()
    if "end" not in rows.columns:
        return pos, pos
    last = rows.select(pl.coalesce("end", pl.col("pos") + 1) - 1).to_series().to_numpy()
    return np.minimum(pos, last), np.maximum(pos, last)


def distances(
    first: np.ndarray, last: np.ndarray, firsts: np.ndarray, lasts: np.ndarray
) -> np.ndarray:
    """Bases from each extent to the nearest of some others of its contig: 0 where they share one.

    Args:
        first, last: any shape.
        firsts, lasts: [m], at least one, in any order.
    """
    order = np.argsort(firsts, kind="stable")
    begins, furthest = firsts[order], np.maximum.accumulate(lasts[order])
    after = np.searchsorted(begins, last, side="right")
    far = np.iinfo(np.int64).max
    to_left = np.where(after > 0, first - furthest[np.maximum(after - 1, 0)], far)
    to_right = np.where(after < len(begins), begins[np.minimum(after, len(begins) - 1)] - last, far)
    return np.maximum(np.minimum(to_left, to_right), 0)
