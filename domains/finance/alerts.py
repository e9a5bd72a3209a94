"""Alerts: rows whose score reaches a threshold. Validation rows say which threshold keeps to a
budget, or costs least; from then on it is fixed, so that no row's alert depends on another row.

A bundle keeps a curve of the validation rows, from which any budget gives its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.errors import ConfigError
from domains.finance.config import Alerts

CURVE = "alert_curve"
STEP = 1.02
"""Ratio of the numbers of alerts of a curve's neighbouring points."""
Figure = Callable[[np.ndarray | None], float]


def printed(score: np.ndarray) -> pl.Series:
    """[n] scores as files show them and as thresholds are compared with: more digits than fp32
    carries would make equal runs look different."""
    return pl.Series(score, dtype=pl.Float64).round_sig_figs(6)


def alert_curve(validation: pl.DataFrame, calibration: Calibration) -> dict[str, Any]:
    """What thresholds would have done on labelled validation rows.

    Args:
        validation: columns raw, label, amount, day.

    Returns:
        `days` and `rows`, and lists of equal length from the highest `score` on: with that as the
        threshold, how many `alerts` and `frauds` there are, and the `amount` of the frauds. The
        last has all rows.
    """
    score = printed(calibration.apply(validation["raw"].to_numpy()))
    steps = (
        validation.select("label", pl.col("amount").clip(0), score=score)
        .group_by("score")
        .agg(
            alerts=pl.len().cast(pl.Int64),
            frauds=pl.col("label").sum().cast(pl.Int64),
            amount=(pl.col("amount") * pl.col("label")).sum(),
        )
        .sort("score", descending=True)
        .with_columns(pl.col("alerts", "frauds", "amount").cum_sum())
    )
    level = np.floor(np.log(steps["alerts"].to_numpy()) / math.log(STEP))
    # The last point of each level, so that a budget is used up.
    kept = steps.filter(pl.Series(np.append(level[1:] != level[:-1], True)))
    return {
        "days": validation["day"].n_unique(),
        "rows": len(validation),
        **kept.to_dict(as_series=False),
    }


def threshold(alerts: Alerts, calibration: Calibration) -> float | None:
    """The least score of an alert; None where no alerts are asked for.

    Raises:
        ConfigError: the bundle has no validation rows to find it by.
    """
    if not alerts.chosen():
        return None
    if alerts.score is not None:
        return alerts.score
    curve = calibration.kept.get(CURVE)
    if not curve or not curve["rows"]:
        (way,) = alerts.chosen()
        raise ConfigError(
            f"alerts.{way}: the bundle keeps no curve of validation rows that would give the "
            "threshold; give it as alerts.score, or train again with split.validation_days above 0"
        )
    return _chosen(alerts, curve)


def _chosen(alerts: Alerts, curve: Mapping[str, Any]) -> float:
    # To begin with, no validation row is an alert.
    score = np.append(np.nextafter(curve["score"][0], np.inf), curve["score"])
    count, frauds, amount = (np.append(0, curve[n]) for n in ("alerts", "frauds", "amount"))
    if alerts.false_alarm is not None:
        missed = amount if alerts.missed is None else alerts.missed * frauds
        cost = missed[-1] - missed + alerts.false_alarm * (count - frauds)
        return float(score[cost.argmin()])
    per_day, share = alerts.per_day, alerts.share
    budget = per_day * curve["days"] if per_day is not None else (share or 0) * curve["rows"]
    return float(score[np.searchsorted(count, budget, side="right") - 1])


def alert_figures(known: pl.DataFrame, alerts: Alerts) -> dict[str, Figure]:
    """Figures of [n] row weights (None: ones) of labelled rows with a column alert: recall,
    precision and alerts a day; and, where costs are stated, cost a day with alerts and without."""
    label = known["label"].to_numpy().astype(np.float64)
    alert = known["alert"].to_numpy().astype(np.float64)
    days = known["day"].n_unique()

    def total(value: np.ndarray) -> Figure:
        return lambda w: float(value.sum() if w is None else value @ w)

    def ratio(above: np.ndarray, below: np.ndarray) -> Figure:
        return lambda w: total(above)(w) / max(total(below)(w), 1e-12)

    found: dict[str, Figure] = {
        "alert_recall": ratio(alert * label, label),
        "alert_precision": ratio(alert * label, alert),
        "alerts_a_day": total(alert / days),
    }
    if alerts.false_alarm is not None:
        amount = known["amount"].clip(0).to_numpy()
        missed = label * (amount if alerts.missed is None else alerts.missed)
        cost = missed * (1 - alert) + alerts.false_alarm * alert * (1 - label)
        found["cost_a_day"] = total(cost / days)
        found["cost_a_day_without_alerts"] = total(missed / days)
    return found
