"""What a retraining judges by: the newest matured days, figures, and slices of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import calibration_error
from core.contract import Challenge, Fold, Yardstick
from core.errors import TooFewLabelsError
from domains.finance.metrics import Ranking

if TYPE_CHECKING:
    from domains.finance.labelled import TransactionSource

LEAST_FRAUDS = 5
"""A window or slice with fewer says nothing."""


def challenge(fold: Fold, source: TransactionSource, seen_until: datetime | None) -> Challenge:
    """The fold by time, its test without days that the champion has learned from.

    Args:
        seen_until: end of the champion's labels; None where there is no champion.

    Raises:
        TooFewLabelsError: the newest days have too few frauds that the champion has not seen.
    """
    after = pl.lit(False) if seen_until is None else pl.col("time") >= seen_until
    fresh = source.events.filter(after)["row"]
    test = source.events.filter(
        pl.col("row").is_in(fold.test.implode()) & pl.col("label").is_not_null()
    )
    if seen_until is not None:
        test = test.filter(after)
    frauds = int(test["label"].sum())
    if not LEAST_FRAUDS <= frauds < len(test):
        raise TooFewLabelsError(
            f"{source.path}: found {frauds} frauds among the {len(test)} newest labelled rows that "
            f"no model has learned from, expected {LEAST_FRAUDS} or more and other rows beside "
            "them; wait for labels to mature, or widen domain.split.retrain_days"
        )
    return Challenge(replace(fold, test=test["row"]), fresh)


def fraud_yardstick(predictions: pl.DataFrame) -> Yardstick:
    """Average precision and ROC AUC; cards are drawn together; slices
    by amount (equal numbers of frauds) and by half of the days."""
    label = predictions["label"].to_numpy().astype(np.float64)
    score = predictions["score"].to_numpy()
    ranking = Ranking(predictions["raw"].to_numpy(), label)
    return Yardstick(
        figures={
            "average_precision": ranking.average_precision,
            "roc_auc": ranking.roc_auc,
        },
        calibration=lambda weight: calibration_error(score, label, weight, mass=score),
        groups=predictions["entity"].to_numpy(),
        slices=_slices(predictions, label),
    )


def _slices(predictions: pl.DataFrame, label: np.ndarray) -> dict[str, np.ndarray]:
    """Names say where in the order of values a slice lies, never a value itself."""
    amount = predictions["amount"].to_numpy()
    low, high = np.quantile(amount[label == 1], [1 / 3, 2 / 3]) if label.any() else (0, 0)
    day = predictions["day"].to_physical().to_numpy()
    middle = (day.min() + day.max() + 1) / 2
    found = {
        "low amounts": amount <= low,
        "middle amounts": (amount > low) & (amount <= high),
        "high amounts": amount > high,
        "first half": day < middle,
        "second half": day >= middle,
    }
    return {
        name: rows
        for name, rows in found.items()
        if LEAST_FRAUDS <= label[rows].sum() < np.count_nonzero(rows)
    }
