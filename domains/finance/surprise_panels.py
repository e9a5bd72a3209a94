"""What the report of a surprise training shows: the most surprising rows with the reason."""

from __future__ import annotations

import numpy as np
import polars as pl

from core.contract import Panel
from domains.finance.metrics import Ranking
from domains.finance.words import FOUND_PREFIX, USUAL, USUAL_PREFIX

SHOWN = 50
HIGH = 3.0
HISTOGRAM_ROWS = 4000
CURVE_POINTS = 300


def surprise_panels(predictions: pl.DataFrame) -> list[Panel]:
    """The top rows, surprise of all rows, which fields surprise; with labels precision by recall.

    Args:
        predictions: columns row, day, label, score, field, and found:FIELD and usual:FIELD.
    """
    panels = [_top(predictions), _fields(predictions), _scores(predictions)]
    known = predictions.filter(pl.col("label").is_not_null())
    if 0 < known["label"].sum() < len(known):
        panels.append(_precision_recall(known))
    return panels


def _top(predictions: pl.DataFrame) -> Panel:
    """Numbers of rows count from 0; no identifier is shown."""
    top = predictions.sort("score", "row", descending=[True, False]).head(SHOWN)
    rows = [
        {
            "row": f"{row['row']:,}",
            "day": str(row["day"]),
            "one in": _rarity(row["score"]),
            "field": row["field"],
            "found": row[f"{FOUND_PREFIX}{row['field']}"],
            "usual": row[f"{USUAL_PREFIX}{row['field']}"],
        }
        for row in top.iter_rows(named=True)
    ]
    share = round(100 * (USUAL[1] - USUAL[0]))
    caption = (
        "Rows count from 0. One in: how many rows it takes for one whose field is as surprising, "
        "by the validation rows' ranks up to the hundredth and their slope beyond. Usual: where "
        f"the model expected {share} % of values, or the two likeliest."
    )
    return Panel(
        f"The {len(rows)} most surprising rows", "table", pl.DataFrame(rows), caption=caption
    )


def _rarity(score: float) -> str:
    return f"{10**score:,.0f}" if score < 6 else "over 1,000,000"


def _scores(predictions: pl.DataFrame) -> Panel:
    names = {0: "legitimate", 1: "fraud", None: "no label"}
    parts = [
        part.select(surprise="score", label=pl.lit(names[value]))
        .sample(fraction=1.0, shuffle=True, seed=0)
        .head(HISTOGRAM_ROWS)
        for (value,), part in sorted(predictions.group_by("label"), key=lambda pair: str(pair[0]))
    ]
    caption = f"3 is one in a thousand. At most {HISTOGRAM_ROWS} rows of each label, at random."
    return Panel(
        "Surprise", "histogram", pl.concat(parts), "surprise", series="label", caption=caption
    )


def _fields(predictions: pl.DataFrame) -> Panel:
    """Which fields are behind high scores; a chart would have no room for their names."""
    high = predictions.filter(pl.col("score") >= HIGH)
    counts = high.group_by("field").agg(rows=pl.len()).sort("rows", "field", descending=True)
    title = (
        f"Fields of the {len(high):,} rows of {len(predictions):,} with surprise {HIGH:g} or more"
    )
    return Panel(title, "table", counts)


def _precision_recall(known: pl.DataFrame) -> Panel:
    found, alerts = Ranking(known["score"].to_numpy(), known["label"].to_numpy()).curve()
    steps = np.unique(np.searchsorted(found, np.linspace(0, found[-1], CURVE_POINTS)))
    steps = np.minimum(steps, len(found) - 1)
    data = pl.DataFrame(
        {"recall": found[steps] / found[-1], "precision": found[steps] / alerts[steps]}
    )
    caption = "Labels judge here; nothing was learned from them."
    return Panel("Precision by recall", "line", data, "recall", "precision", caption=caption)
