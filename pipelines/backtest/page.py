"""report.html of a back-test: a line by week for every figure, and the tables behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from core.contract import Metric, Panel
from pipelines.backtest.figures import ALL, protocol
from pipelines.backtest.walk import Walk
from pipelines.report import Table, write_report

if TYPE_CHECKING:
    import polars as pl

HEADING = "All weeks together"
SERVED = "Of each row, ours is the model that was in use when it came."
FLOORS = (
    "A floor is a model that takes no learning worth the name; it learns from the rows that ours "
    "has learned from."
)
FROZEN = "The frozen model is the bundle itself, never trained again."


def write_page(
    walk: Walk,
    steps: Mapping[date, Mapping[str, Any]],
    predictions: Mapping[str, pl.DataFrame],
    metrics: Sequence[Metric],
) -> None:
    """Write the page whole or not at all."""
    models = list(predictions)
    names = list(dict.fromkeys(m.metric for m in metrics))
    tables = [_models(walk, steps), *(_weekly(walk, name, models, metrics) for name in names)]
    panels = [_line(walk, name, models, metrics) for name in names]
    panels += walk.task.panels(walk.source, predictions["ours"])
    notes = [SERVED, *([FROZEN] if walk.lesson is not None else []), FLOORS]
    first, last = walk.rows["week"].min(), walk.rows["day"].max()
    manifest = {"created": f"{first} to {last}", "fingerprint": walk.source.fingerprint()}
    write_report(
        walk.folder / "report.html",
        f"{walk.bundle.domain}: {walk.task.name}, back-test by week",
        manifest,
        [m for m in metrics if m.protocol == ALL],
        panels,
        tables,
        HEADING,
        " ".join(notes),
    )


def _models(walk: Walk, steps: Mapping[date, Mapping[str, Any]]) -> Table:
    """Which model was in use from which week on."""
    rows = [
        [
            str(day),
            one["model_version"],
            one["labels_known_by"],
            str(one["seen"]),
            one["kept_because"] or "",
        ]
        for day, one in steps.items()
    ]
    head = [
        "weeks from",
        "model in use",
        "its labels known by",
        "rows it has learned",
        "kept because",
    ]
    caption = (
        "A model has seen no row of the weeks that it is in use for, and no label that was not "
        "known when the first of them began."
    )
    return Table("Models", head, rows, caption=caption)


def _weekly(walk: Walk, name: str, models: Sequence[str], metrics: Sequence[Metric]) -> Table:
    found = {(m.protocol, m.model): m for m in metrics if m.metric == name}
    rows = []
    for week, count, rate in _weeks(walk):
        cells = [_cell(found.get((protocol(week), model))) for model in models]
        rows.append([str(week), str(count), f"{rate:.4g}", *cells])
    head = ["week from", "rows", "mean label", *models]
    caption = "In brackets 95 % intervals. A week without a figure had too few labels of a kind."
    return Table(f"{name} by week", head, rows, caption=caption)


def _weeks(walk: Walk) -> list[tuple[date, int, float]]:
    """First day, rows and mean label of each week."""
    import polars as pl

    by_week = walk.rows.group_by("week").agg(pl.len(), mean=pl.col("label").cast(float).mean())
    return by_week.sort("week").rows()  # pyright: ignore[reportReturnType]


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return ""
    return f"{_number(metric.value)} [{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float) -> str:
    """Shares and scores with three digits, sums of money without a fraction."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _line(walk: Walk, name: str, models: Sequence[str], metrics: Sequence[Metric]) -> Panel:
    import polars as pl

    weeks = {protocol(week): week for week, _, _ in _weeks(walk)}
    points = [
        (weeks[m.protocol], m.value, m.model)
        for model in models
        for m in metrics
        if (m.metric, m.model) == (name, model) and m.protocol in weeks
    ]
    schema = {"week from": pl.Date, name: pl.Float64, "model": pl.String}
    data = pl.DataFrame(points, schema=schema, orient="row")
    return Panel(f"{name} by week", "line", data, "week from", name, series="model")
