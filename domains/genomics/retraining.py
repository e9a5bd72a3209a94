"""What a retraining judges by: groups of labels that no model concerned has seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from core.calibration import calibration_error
from core.contract import Challenge, Yardstick
from core.errors import TooFewLabelsError
from domains.genomics.data_config import SplitConfig
from domains.genomics.figures import FIGURES
from domains.genomics.purge import Purge
from domains.genomics.split import in_order, make_fold, make_folds, spread

Figure = Callable[[np.ndarray, np.ndarray], float]
_TRANSITIONS = ("A>G", "G>A", "C>T", "T>C")


def challenge(
    variants: pl.DataFrame, seen: pl.Series, split: SplitConfig, purge: Purge
) -> Challenge:
    """Half of the groups that are new to the champion test, the other half trains with all the
    rest: a challenger that may learn nothing new could not be better. Without a champion the
    first outer fold is held out.

    Args:
        variants: columns row, chrom, pos, group, outer and, with events, end.
        seen: rows whose labels the champion has seen.
        purge: what keeps labels apart from held-out ones.

    Raises:
        TooFewLabelsError: fewer than two groups are new.
    """
    if seen.is_empty():
        return Challenge(make_folds(variants, split, purge)[0], variants["row"].clear())
    known = variants.filter(pl.col("row").is_in(seen.implode()))
    fresh = variants.filter(~pl.col("group").is_in(known["group"].unique().implode()))
    groups = in_order(fresh)
    if len(groups) < 2:
        raise TooFewLabelsError(
            f"data.variants: found {len(groups)} groups of labels that the champion has not seen, "
            "expected two or more: one to learn from, one to judge by; wait for more labels, or "
            "choose smaller groups (data.split)"
        )
    held = spread(groups, len(groups) // 2)
    test = purge.apply(fresh.filter(pl.col("group").is_in(held)), known).kept
    if len(test) < 2:
        raise TooFewLabelsError(
            f"data.variants: found {len(test)} labels farther than data.split.purge="
            f"{purge.distance} bases from all that the champion has seen, and in none of its "
            "codons, expected two or more"
        )
    inner = variants.filter(~pl.col("group").is_in(held))
    return Challenge(make_fold("challenge", inner, test, split, purge), fresh["row"])


def effect_yardstick(predictions: pl.DataFrame, kind: str) -> Yardstick:
    """The figures of the report; groups are drawn together; slices are transitions and
    transversions."""
    label = predictions["label"].to_numpy().astype(np.float64)
    score = predictions["score"].to_numpy()
    mass = score if kind == "classification" else np.ones(len(score))
    substitution = predictions.select(pl.concat_str("ref", "alt", separator=">")).to_series()
    transition = substitution.is_in(_TRANSITIONS).to_numpy()
    slices = {"transitions": transition, "transversions": ~transition}

    def drawn(figure: Figure) -> Callable[[np.ndarray], float]:
        def of(weight: np.ndarray) -> float:
            rows = np.repeat(np.arange(len(label)), weight.astype(np.int64))
            return figure(label[rows], score[rows])

        return of

    return Yardstick(
        figures={name: drawn(figure) for name, figure in FIGURES[kind].items()},
        calibration=lambda weight: calibration_error(score, label, weight, mass),
        groups=predictions["group"].rank("dense").to_numpy().astype(np.int64),
        slices={name: rows for name, rows in slices.items() if np.count_nonzero(rows) > 1},
    )
