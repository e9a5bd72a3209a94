"""Groups of labelled alleles, and the folds made of them.

A random split by variant leaks: neighbouring positions share their labels' causes. Groups are
contigs, fixed blocks or named regions; no group is ever on two sides.
"""

from __future__ import annotations

import logging

import numpy as np
import polars as pl

from core.contract import Fold
from core.errors import TooFewLabelsError
from domains.genomics.data_config import SplitConfig
from domains.genomics.purge import Purge

log = logging.getLogger(__name__)


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


def fold_name(outer: int) -> str:
    return f"fold{outer}"


def make_folds(variants: pl.DataFrame, split: SplitConfig, purge: Purge) -> list[Fold]:
    """One fold an outer part, then `all`: the refit, whose test is empty.

    Args:
        variants: columns row, chrom, pos, group, outer and, with events, end.
        purge: what keeps labels apart from held-out ones.

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
        folds.append(make_fold(fold_name(outer), inner, test, split, purge))
    folds.append(make_fold("all", variants, variants.clear(), split, purge))
    return folds


def make_fold(
    name: str, inner: pl.DataFrame, test: pl.DataFrame, split: SplitConfig, purge: Purge
) -> Fold:
    """Validation is whole groups of `inner`; nothing of `inner` that the purge takes for `test`,
    and nothing to train on that it takes for validation. Logs how many rows go, and why.

    Raises:
        TooFewLabelsError: the purge leaves nothing to train or to calibrate on.
    """
    held = pl.col("group").is_in(_validation_groups(inner, split) if split.validation else [])
    of_test = purge.apply(inner, test)
    validation = of_test.kept.filter(held)
    of_validation = purge.apply(of_test.kept.filter(~held), validation)
    train = of_validation.kept
    if train.is_empty() or (validation.is_empty() and split.validation):
        raise TooFewLabelsError(
            f"data.split: {name} is left with {len(train)} training and {len(validation)} "
            "validation labels; give it more groups (data.split.kind, block) or fewer folds"
        )
    facts = {
        "fold": name,
        "near_test": of_test.near,
        "in_codon_of_test": of_test.in_codon,
        "near_validation": of_validation.near,
        "in_codon_of_validation": of_validation.in_codon,
    }
    log.info("labels left out of a fold", extra={"facts": facts})
    refit = of_test.kept["row"] if split.refit else None
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
