"""Figures of every model, of each week and of all together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from core.contract import Metric
from core.errors import TooFewLabelsError
from pipelines.backtest.walk import Walk

if TYPE_CHECKING:
    import polars as pl

ALL = "all weeks"


def together(walk: Walk, steps: Mapping[date, Mapping[str, Any]]) -> dict[str, pl.DataFrame]:
    """By model, its predictions of all weeks, with the week. A model that some step lacks (a floor
    that had nothing to learn from) is left out: its figures would be of other rows."""
    import polars as pl

    everywhere = [
        name
        for name in next(iter(steps.values()))["models"]
        if all(name in one["models"] for one in steps.values())
    ]
    weeks = walk.rows.select("row", "week")
    return {
        name: pl.concat(
            pl.read_parquet(walk.folder / str(day) / f"{name}.parquet") for day in steps
        ).join(weeks, on="row", how="left", maintain_order="left")
        for name in everywhere
    }


def figures(walk: Walk, predictions: Mapping[str, pl.DataFrame]) -> list[Metric]:
    """Of all weeks together (protocol `all weeks`) and of each (`week 2024-03-01`); a week in which
    nothing can be ranked has none."""
    import polars as pl

    found = []
    for name, frame in predictions.items():
        found += _of(walk, name, frame, ALL)
        for week in frame["week"].unique().sort():
            found += _of(walk, name, frame.filter(pl.col("week") == week), protocol(week))
    return found


def protocol(week: date) -> str:
    return f"week {week}"


def _of(walk: Walk, model: str, frame: pl.DataFrame, protocol: str) -> Iterator[Metric]:
    """The task's figures of all these rows; parts of them, which it has under other protocols, are
    for evaluating without a back-test."""
    try:
        metrics = walk.task.metrics(walk.source, frame)
    except TooFewLabelsError:
        return
    for metric in metrics:
        if metric.protocol == metrics[0].protocol:
            yield replace(metric, model=model, protocol=protocol)
