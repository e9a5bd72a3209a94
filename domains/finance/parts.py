"""Figures of parts of the rows: week by week, by kind of fraud, of entities new and known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
import polars as pl

from core.contract import Metric
from domains.finance.metrics import Ranking, cluster_weights, interval

FEWEST = 20
"""Frauds that a part must have for a figure of its own."""
NEW = 5
"""An entity with fewer earlier transactions than this is new."""
EARLIER = "earlier:"
"""Prefix of a column that counts the earlier transactions of an entity."""


def part_metrics(data: str, predictions: pl.DataFrame, seed: int = 0) -> Iterator[Metric]:
    """Average precision of each part, which the protocol names; of a kind of fraud, among it and
    all legitimate rows, with its recall where as many rows are alerts as there are frauds.

    Args:
        predictions: columns label, raw, day, entity, `earlier:*`, and kind where the schema names
            one.
    """
    known = predictions.filter(pl.col("label").is_not_null())
    if known["label"].sum() < FEWEST:
        return
    for protocol, rows in _parts(known):
        part = known.filter(rows)
        if not FEWEST <= part["label"].sum() < len(part):
            continue
        ranking = Ranking(part["raw"].to_numpy(), part["label"].to_numpy())
        precision = ranking.average_precision
        yield _metric(data, protocol, "average_precision", precision, part["entity"], seed)
        if protocol.startswith("kind "):
            frauds = part.filter(pl.col("label") == 1)
            caught = (frauds["raw"] >= _budget(known)).to_numpy()
            recall = _share(caught)
            yield _metric(data, protocol, "recall_of_kind", recall, frauds["entity"], seed)


def _parts(known: pl.DataFrame) -> Iterator[tuple[str, pl.Expr]]:
    day = pl.col("day")
    first, last = known["day"].min(), known["day"].max()
    weeks = (last - first).days // 7 + 1  # pyright: ignore
    for begin in (first + timedelta(days=7 * week) for week in range(weeks)):  # pyright: ignore
        yield f"week {begin}", (day >= begin) & (day < begin + timedelta(days=7))
    if "kind" in known.columns:
        frauds = known.filter(pl.col("label") == 1)
        for kind in frauds["kind"].drop_nulls().unique().sort():
            yield f"kind {kind}", (pl.col("kind") == kind).fill_null(False) | (pl.col("label") == 0)
    for column in known.columns:
        if column.startswith(EARLIER):
            name = column.removeprefix(EARLIER)
            yield f"new {name}", pl.col(column) < NEW
            yield f"known {name}", pl.col(column) >= NEW


def _budget(known: pl.DataFrame) -> float:
    """The raw score that as many rows reach as there are frauds."""
    raw, frauds = known["raw"].to_numpy(), int(known["label"].sum())
    return float(np.partition(raw, -frauds)[-frauds])


def _share(caught: np.ndarray) -> Callable[[np.ndarray | None], float]:
    return lambda weight: (
        float(np.sum(caught if weight is None else caught * weight))
        / max(float(len(caught) if weight is None else weight.sum()), 1e-12)
    )


def _metric(
    data: str,
    protocol: str,
    name: str,
    figure: Callable[[np.ndarray | None], float],
    cards: pl.Series,
    seed: int,
) -> Metric:
    draws = [figure(weight) for weight in cluster_weights(cards.to_numpy(), seed)]
    return Metric(data, protocol, "ours", name, figure(None), *interval(np.array(draws)))


def earlier(events: pl.DataFrame) -> list[pl.Expr]:
    """Of every entity, how many transactions it had before; events are in the order of time."""
    return [
        (pl.int_range(pl.len()).over(column)).alias(EARLIER + column.split(":", 1)[1])
        for column in events.columns
        if column.startswith("entity:")
    ]
