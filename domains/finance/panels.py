"""Charts of the report: what a fraud team looks at first."""

from __future__ import annotations

import numpy as np
import polars as pl

from core.contract import Panel
from domains.finance.metrics import Ranking

CURVE_POINTS = 300
HISTOGRAM_ROWS = 4000
RELIABILITY_BINS = 10


def fraud_panels(predictions: pl.DataFrame) -> list[Panel]:
    """Precision against recall, score by label, average precision by week, reliability."""
    known = predictions.filter(pl.col("label").is_not_null())
    return [_precision_recall(known), _scores(known), _weekly(known), _reliability(known)]


def _precision_recall(known: pl.DataFrame) -> Panel:
    found, alerts = Ranking(known["raw"].to_numpy(), known["label"].to_numpy()).curve()
    # Even steps of recall: even steps of rows would draw the tail and skip the start.
    steps = np.unique(np.searchsorted(found, np.linspace(0, found[-1], CURVE_POINTS)))
    steps = np.minimum(steps, len(found) - 1)
    data = pl.DataFrame(
        {"recall": found[steps] / found[-1], "precision": found[steps] / alerts[steps]}
    )
    return Panel("Precision by recall", "line", data, "recall", "precision")


def _scores(known: pl.DataFrame) -> Panel:
    parts = [
        known.filter(pl.col("label") == value)
        .select(
            pl.col("score").clip(1e-6, 1 - 1e-6).log10().alias("log10 score"),
            label=pl.lit(name),
        )
        .sample(fraction=1.0, shuffle=True, seed=0)
        .head(HISTOGRAM_ROWS)
        for value, name in ((0, "legitimate"), (1, "fraud"))
    ]
    caption = f"At most {HISTOGRAM_ROWS} rows of each label, drawn at random."
    data = pl.concat(parts)
    return Panel(
        "Score by label", "histogram", data, "log10 score", series="label", caption=caption
    )


def _weekly(known: pl.DataFrame) -> Panel:
    passed = (pl.col("day") - pl.col("day").min()).dt.total_days() % 7
    weeks = known.with_columns(week=pl.col("day").dt.offset_by(pl.format("-{}d", passed)))
    rows = [
        (
            str(week),
            Ranking(part["raw"].to_numpy(), part["label"].to_numpy()).average_precision(),
        )
        for (week,), part in sorted(weeks.group_by("week"))
        if part["label"].sum() > 0
    ]
    data = pl.DataFrame(rows, schema=["week", "average precision"], orient="row")
    return Panel("Average precision by week", "bar", data, "week", "average precision")


def _reliability(known: pl.DataFrame) -> Panel:
    """Bins hold equal numbers of expected frauds, so that rare high scores are not one bin."""
    ordered = known.sort("score")
    share = ordered["score"].cum_sum() / max(ordered["score"].sum(), 1e-12)
    bins = (share * RELIABILITY_BINS).floor().clip(0, RELIABILITY_BINS - 1)
    data = (
        ordered.with_columns(bin=bins)
        .group_by("bin")
        .agg(pl.col("score").mean().alias("predicted"), pl.col("label").mean().alias("actual"))
        .sort("predicted")
        .select("predicted", "actual")
    )
    caption = "Each point holds a tenth of the expected frauds; the diagonal is perfect."
    return Panel("Reliability", "scatter", data, "predicted", "actual", caption=caption)
