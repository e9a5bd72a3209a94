"""Figures of fraud scores with intervals that resample whole days, and differences by cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from domains.finance.metrics import ALERTS, Ranking, card_precision, cluster_weights, interval

SEED = 0
FEWEST = 20
"""Frauds that a part of the test must have for a figure of its own."""


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval."""

    metric: str
    value: float
    low: float
    high: float


def whole_test(judged: Sequence[pl.DataFrame]) -> Iterator[Figure]:
    """Average precision, ROC AUC, predicted over actual rate and card precision.

    Args:
        judged: the same rows by one model, or by it with several seeds, whose mean is the figure;
            columns label, raw (any number that ranks), score (a probability), day, entity.
    """
    label = judged[0]["label"].to_numpy().astype(np.float64)
    rankings = _rankings(judged)
    score = np.mean([frame["score"].to_numpy() for frame in judged], axis=0)

    def rate(weight: np.ndarray | None) -> float:
        actual = np.average(label, weights=weight)
        return float(np.average(score, weights=weight) / max(actual, 1e-12))

    days = judged[0]["day"]
    yield _resampled("average_precision", _mean(rankings, Ranking.average_precision), days)
    yield _resampled("roc_auc", _mean(rankings, Ranking.roc_auc), days)
    yield _resampled("predicted_over_actual", rate, days)
    daily = np.mean([card_precision(frame, ALERTS) for frame in judged], axis=0)
    yield _of_days(f"card_precision_{ALERTS}", daily, np.ones(len(daily)))


def parts(judged: Sequence[pl.DataFrame]) -> Iterator[Figure]:
    """Average precision by week; by kind of fraud, with the recall where there are as many alerts
    as frauds; and for cards and terminals that training knew or not.

    Args:
        judged: as for `whole_test`, with columns kind (null where none is named), new_card and
            new_terminal.
    """
    first = judged[0]
    start = first["day"].min()
    for week in range((first["day"].max() - start).days // 7 + 1):  # pyright: ignore
        begin = start + timedelta(days=7 * week)  # pyright: ignore
        inside = (first["day"] >= begin) & (first["day"] < begin + timedelta(days=7))
        yield from _part(f"average_precision_week_{begin}", judged, inside)
    for kind in sorted(first["kind"].drop_nulls().unique()):
        of_kind = (first["kind"] == kind).fill_null(False)
        honest = first["label"] == 0
        yield from _part(f"average_precision_kind_{kind}", judged, of_kind | honest)
        yield _recall(f"recall_kind_{kind}", judged, of_kind)
    for entity in ("card", "terminal"):
        new = first[f"new_{entity}"]
        yield from _part(f"average_precision_new_{entity}", judged, new)
        yield from _part(f"average_precision_known_{entity}", judged, ~new)


def paired_difference(
    metric: str, ours: Sequence[pl.DataFrame], theirs: Sequence[pl.DataFrame]
) -> Figure:
    """Average precision of ours minus theirs on the same rows; both see the same draw of cards."""
    mine = _mean(_rankings(ours), Ranking.average_precision)
    other = _mean(_rankings(theirs), Ranking.average_precision)
    return _resampled(metric, lambda weight: mine(weight) - other(weight), ours[0]["entity"])


Value = Callable[[np.ndarray | None], float]


def _resampled(metric: str, value: Value, cluster: pl.Series) -> Figure:
    draws = [value(weight) for weight in cluster_weights(cluster.to_numpy(), SEED)]
    return Figure(metric, value(None), *interval(np.array(draws)))


def _mean(rankings: Sequence[Ranking], value: Callable[..., float]) -> Value:
    return lambda weight: float(np.mean([value(ranking, weight) for ranking in rankings]))


def _rankings(judged: Sequence[pl.DataFrame]) -> list[Ranking]:
    return [Ranking(frame["raw"].to_numpy(), frame["label"].to_numpy()) for frame in judged]


def _part(metric: str, judged: Sequence[pl.DataFrame], rows: pl.Series) -> Iterator[Figure]:
    """Nothing where the part has too few frauds to say anything."""
    chosen = [frame.filter(rows) for frame in judged]
    if chosen[0]["label"].sum() < FEWEST:
        return
    value = _mean(_rankings(chosen), Ranking.average_precision)
    yield _resampled(metric, value, chosen[0]["day"])


def _recall(metric: str, judged: Sequence[pl.DataFrame], rows: pl.Series) -> Figure:
    """Share of these frauds among as many alerts as there are frauds of all kinds."""
    frauds = int(judged[0]["label"].sum())
    caught = []
    for frame in judged:
        raw = frame["raw"].to_numpy()
        caught.append(raw >= np.partition(raw, -frauds)[-frauds])
    share = pl.DataFrame({"day": judged[0]["day"], "caught": np.mean(caught, axis=0)}).filter(rows)
    days = share.group_by("day", maintain_order=True).agg(pl.col("caught").sum(), n=pl.len())
    return _of_days(metric, days["caught"].to_numpy(), days["n"].to_numpy())


def _of_days(metric: str, part: np.ndarray, whole: np.ndarray) -> Figure:
    """Sum of daily parts over the sum of daily wholes, by resampled days."""
    days = np.arange(len(part))
    draws = [
        np.dot(part, weight) / max(np.dot(whole, weight), 1e-12)
        for weight in cluster_weights(days, SEED)
    ]
    return Figure(metric, float(part.sum() / whole.sum()), *interval(np.array(draws)))
