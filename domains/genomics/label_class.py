"""Whether labelled alleles are of two classes, to be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from core.contract import Fold
from core.errors import ConfigError, TooFewLabelsError

_MOST_NAMED = 8


def check_positive(given: pl.Series, positive: Sequence[str]) -> None:
    """Of all labels of a training.

    Args:
        given: labels as the file has them (text).
        positive: those that count as 1.

    Raises:
        ConfigError: one of `positive` is no label: its alleles would count as 0.
        TooFewLabelsError: all labels are among `positive`.
    """
    counts = given.value_counts(name="rows").sort(["rows", given.name], descending=[True, False])
    found = dict(counts.iter_rows())
    named = ", ".join(f"{label} ({rows})" for label, rows in list(found.items())[:_MOST_NAMED])
    more = " and others" if len(found) > _MOST_NAMED else ""
    if missing := [label for label in positive if label not in found]:
        raise ConfigError(
            f"data.positive: found {', '.join(missing)}, which no usable row has as its label; the "
            f"labels are {named}{more}"
        )
    if set(found) == set(positive):
        raise TooFewLabelsError(
            f"data.positive: found {', '.join(positive)}, which are all labels that there are "
            f"({named}), expected others too, which count as 0"
        )


def check_classes(variants: pl.DataFrame, fold: Fold) -> None:
    """Raises TooFewLabelsError where the labels that a fold trains on are of one class.

    Args:
        variants: columns row, label (0 or 1).
    """
    rows = variants.filter(pl.col("row").is_in(fold.train.implode()))
    positive = int((rows["label"] > 0).sum())
    if positive in (0, len(rows)):
        raise TooFewLabelsError(
            f"data.split: {fold.name} would train on {positive} positive and "
            f"{len(rows) - positive} negative labels, expected some of both; choose larger groups "
            "(data.split.kind, block) or other folds"
        )
