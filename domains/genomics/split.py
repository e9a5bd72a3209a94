"""Groups of labelled alleles, and the folds made of them.

A random split by variant leaks: neighbouring positions share their labels' causes. Groups are
contigs, fixed blocks or named regions; no group is ever on two sides.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from core.contract import Fold
from core.errors import TooFewLabelsError
from domains.genomics.config import SplitConfig


def with_groups(variants: pl.DataFrame, split: SplitConfig) -> pl.DataFrame:
    """Adds `group` (text) and `outer` (int64, number of the fold that tests the row).

    Args:
        variants: columns chrom, pos (0-based), group_field.
    """
    block = pl.col("pos") // split.block
    if split.kind == "blocks":
        grouped = variants.with_columns(
            group=pl.col("chrom") + ":" + block.cast(pl.String),
            outer=(block % split.folds).cast(pl.Int64),
        )
    elif split.kind == "stretches":
        place = pl.struct("chrom", block).rank("dense") - 1
        grouped = variants.with_columns(
            group=pl.col("chrom") + ":" + block.cast(pl.String),
            outer=(place * split.folds // (place.max() + 1)).cast(pl.Int64),
        )
    else:
        column = "chrom" if split.kind == "contig" else "group_field"
        grouped = variants.with_columns(group=pl.col(column))
        dealt = _deal(grouped["group"], split.folds)
        grouped = grouped.with_columns(
            outer=pl.col("group").replace_strict(dealt, return_dtype=pl.Int64)
        )
    return grouped.drop("group_field")


def _deal(groups: pl.Series, folds: int) -> dict[str, int]:
    """Largest group first, each to the fold with the fewest rows so far."""
    counts = groups.value_counts().sort(["count", groups.name], descending=[True, False])
    rows = [0] * folds
    dealt = {}
    for name, count in counts.iter_rows():
        fold = rows.index(min(rows))
        dealt[name] = fold
        rows[fold] += count
    return dealt


def make_folds(variants: pl.DataFrame, split: SplitConfig) -> list[Fold]:
    """One fold an outer part, then `all`: the refit, whose test is empty.

    Args:
        variants: columns row, chrom, pos, group, outer.

    Raises:
        TooFewLabelsError: fewer groups than folds, or a fold that the purge leaves empty.
    """
    found = variants["outer"].n_unique()
    if found < split.folds:
        raise TooFewLabelsError(
            f"data.split: the labels lie in {found} groups of kind {split.kind}, too few for "
            f"{split.folds} folds; lower data.split.folds or choose another kind"
        )
    folds = []
    for outer in range(split.folds):
        inner = variants.filter(pl.col("outer") != outer)
        test = variants.filter(pl.col("outer") == outer)
        folds.append(make_fold(f"fold{outer}", inner, test, split))
    folds.append(make_fold("all", variants, variants.clear(), split))
    return folds


def make_fold(name: str, inner: pl.DataFrame, test: pl.DataFrame, split: SplitConfig) -> Fold:
    """Validation is whole groups of `inner`; nothing lies within the purge of what is held out.

    Raises:
        TooFewLabelsError: the purge leaves nothing to train or to calibrate on.
    """
    held = _validation_groups(inner, split) if split.validation else []
    validation = far_from(inner.filter(pl.col("group").is_in(held)), test, split.purge)
    train = far_from(inner.filter(~pl.col("group").is_in(held)), test, split.purge)
    train = far_from(train, validation, split.purge)
    if train.is_empty() or (validation.is_empty() and split.validation):
        raise TooFewLabelsError(
            f"data.split: {name} is left with {len(train)} training and {len(validation)} "
            "validation labels; give it more groups (data.split.kind, block) or fewer folds"
        )
    refit = far_from(inner, test, split.purge)["row"] if split.refit else None
    return Fold(name, train["row"], validation["row"], test["row"], refit)


def _validation_groups(inner: pl.DataFrame, split: SplitConfig) -> list[str]:
    """Whole groups, evenly spread over the training groups in genome order."""
    names = in_order(inner)
    return spread(names, max(1, round(split.validation * len(names)))) if len(names) > 1 else []


def in_order(rows: pl.DataFrame) -> list[str]:
    """Names of the groups of `rows` in genome order."""
    first = rows.group_by("group", maintain_order=True).agg(
        pl.col("chrom").first(), pl.col("pos").min()
    )
    return first.sort("chrom", "pos", "group")["group"].to_list()


def spread(names: list[str], count: int) -> list[str]:
    """`count` of the names at even distances."""
    at = (np.arange(count) + 0.5) * len(names) / count
    return [names[int(i)] for i in at]


def far_from(rows: pl.DataFrame, others: pl.DataFrame, distance: int) -> pl.DataFrame:
    """`rows` without those within `distance` bases of a position of `others`."""
    keep = np.ones(len(rows), dtype=bool)
    chrom, pos = rows["chrom"].to_numpy(), rows["pos"].to_numpy()
    for name in others["chrom"].unique():
        theirs = np.unique(others.filter(pl.col("chrom") == name)["pos"].to_numpy())
        here = np.flatnonzero(chrom == name)
        right = np.searchsorted(theirs, pos[here])
        gap_right = theirs[np.minimum(right, len(theirs) - 1)] - pos[here]
        gap_left = pos[here] - theirs[np.maximum(right - 1, 0)]
        nearest = np.minimum(np.abs(gap_right), np.abs(gap_left))
        keep[here] = nearest > distance
    return rows.filter(pl.Series(keep, dtype=pl.Boolean))
