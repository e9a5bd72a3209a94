"""Figures of a fraud model with bootstrap intervals that respect what repeats.

Transactions of one card are not independent, so intervals resample whole cards; card precision
is a figure a day, so its interval resamples days. AP, AUC and card precision follow the Fraud
Detection Handbook (Le Borgne et al. 2022), chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from core.contract import Metric
from core.errors import TooFewLabelsError
from domains.finance.alerts import alert_figures
from domains.finance.config import Alerts
from domains.finance.model import require_finite

REPEATS = 200
ALERTS = 100
"""Cards a fraud team can look at in a day."""


class Ranking:
    """Rows sorted once by falling score; every resample is then a weighted cumulative sum.

    Args:
        score: [n] higher is more suspect.
        label: [n] 0 or 1.
    """

    def __init__(self, score: np.ndarray, label: np.ndarray) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.label = label[self.order].astype(np.float64)
        ordered = score[self.order]
        # Equal scores are one threshold: their order says nothing.
        self.last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)

    def curve(self, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Frauds and all rows (weighted) at or above each threshold."""
        if weight is None:
            weight = np.ones(len(self.order))
        weight = weight[self.order]
        return np.cumsum(weight * self.label)[self.last], np.cumsum(weight)[self.last]

    def average_precision(self, weight: np.ndarray | None = None) -> float:
        """Sum over thresholds of the rise in recall times precision."""
        found, alerts = self.curve(weight)
        precision = np.divide(found, alerts, out=np.zeros_like(found), where=alerts > 0)
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / max(found[-1], 1e-12))

    def roc_auc(self, weight: np.ndarray | None = None) -> float:
        """Chance that a fraud scores above a legitimate row; ties count half."""
        found, alerts = self.curve(weight)
        wrong = alerts - found
        area = np.sum(np.diff(wrong, prepend=0.0) * (found + np.append(0.0, found[:-1])) / 2)
        return float(area / max(found[-1] * wrong[-1], 1e-12))


def fraud_metrics(
    data: str,
    protocol: str,
    predictions: pl.DataFrame,
    alerts: Alerts | None = None,
    seed: int = 0,
) -> list[Metric]:
    """Metrics of labelled rows.

    Args:
        predictions: columns label, raw, score, day, entity; where rows have an alert or not, alert
            and amount too.
        alerts: what alerts cost.

    Raises:
        TooFewLabelsError: a class is missing, so that nothing can be ranked.
        LongstrandError: a prediction is not a finite number.
    """
    known = predictions.filter(pl.col("label").is_not_null())
    label = known["label"].to_numpy().astype(np.float64)
    if not 0 < label.sum() < len(label):
        raise TooFewLabelsError(
            f"test rows: found {int(label.sum())} frauds among {len(label)} labelled rows, "
            "expected both classes; widen split.test_from and split.test_until, or name other data"
        )
    score = require_finite(known["score"].to_numpy(), "scores")
    ranking = Ranking(require_finite(known["raw"].to_numpy(), "predictions"), label)
    figures: dict[str, Callable[[np.ndarray | None], float]] = {
        "average_precision": ranking.average_precision,
        "roc_auc": ranking.roc_auc,
        "predicted_over_actual": lambda w: float(
            np.average(score, weights=w) / max(np.average(label, weights=w), 1e-12)
        ),
    }
    if "alert" in known.columns:
        figures |= alert_figures(known, alerts or Alerts())
    draws = cluster_weights(known["entity"].to_numpy(), seed)
    resampled = np.array([[figure(w) for figure in figures.values()] for w in draws])
    found = [
        Metric(data, protocol, "ours", name, figure(None), *interval(resampled[:, i]))
        for i, (name, figure) in enumerate(figures.items())
    ]
    daily = card_precision(known, ALERTS)
    days = np.random.default_rng(seed).integers(len(daily), size=(REPEATS, len(daily)))
    low, high = interval(daily[days].mean(axis=1))
    name = f"card_precision_at_{ALERTS}"
    return [*found, Metric(data, protocol, "ours", name, float(daily.mean()), low, high)]


def card_precision(predictions: pl.DataFrame, alerts: int) -> np.ndarray:
    """[days] share of each day's `alerts` most suspect cards that had a fraud that day. A card that
    was caught so is blocked: later days don't count it."""
    cards = predictions.group_by("day", "entity").agg(pl.col("raw").max(), pl.col("label").max())
    ranked = cards.sort(["day", "raw", "entity"], descending=[False, True, False])
    caught, daily = set[int](), []
    for (_,), day in ranked.group_by("day", maintain_order=True):
        top = day.filter(~pl.col("entity").is_in(list(caught))).head(alerts)
        hits = top.filter(pl.col("label") == 1)["entity"].to_list()
        daily.append(len(hits) / alerts)
        caught.update(hits)
    return np.array(daily)


def cluster_weights(cluster: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn when whole clusters are drawn with replacement."""
    _, code = np.unique(cluster, return_inverse=True)
    count = int(code.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(REPEATS):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[code].astype(np.float32)


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
