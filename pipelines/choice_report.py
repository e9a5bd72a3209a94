"""What attention=auto chose, for attention_choice.json and for report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from omegaconf import DictConfig

from core.contract import Panel
from pipelines.entrants import Entrants
from pipelines.report import Table
from pipelines.tries import Try

if TYPE_CHECKING:
    from core.attention.auto import Candidate

_HEAD = (
    "fold",
    "pattern",
    "sizes",
    "share of dense cost",
    "predicted s/step",
    "measured s/step",
    "validation loss",
    "steps",
    "verdict",
)


def described(one: Candidate, node: DictConfig) -> dict[str, Any]:
    """A pattern as it is saved, and as a command line asks for it."""
    sizes = [f"attention.{name}={size}" for name, size in one.sizes]
    if one.family in ("longformer", "bigbird"):
        sizes.append(f"attention.global_positions={list(node.global_positions)}".replace(" ", ""))
    if node.causal:
        sizes.append("attention.causal=true")
    return {
        "name": one.name,
        "attention": " ".join([f"attention={one.family}", *sizes]),
        "saved": one.pattern.to_dict(),
    }


def choice_rows(
    node: DictConfig, field: Entrants, tried: Mapping[str, Mapping[str, list[Try]]]
) -> list[dict[str, Any]]:
    """The table: every pattern in every fold that judged it, then what was not tried."""
    competing = [*field.within, *([] if field.dense is None else [field.dense])]
    by_name = {one.name: one for one in competing}
    rows = []
    for fold, order in tried.items():
        for place, (name, tries) in enumerate(order.items()):
            verdict = _verdict(node, field, place, name, tries)
            predicted = _predicted(by_name[name], node, field)
            rows.append({"fold": fold, **predicted, **_measured(tries), "verdict": verdict})
    if field.dense is not None and not field.dense_is_tried():
        verdict = f"not tried: {field.dense_ratio():.0f} times the attention cost of the others"
        predicted = _predicted(field.dense, node, field)
        rows.append({"fold": "", **predicted, **_measured([]), "verdict": verdict})
    for one in field.left_out:
        row = {"pattern": one.name, "sizes": "", "share_of_dense": None, "predicted_seconds": None}
        verdict = f"left out: {one.reason}"
        rows.append({"fold": "", **row, **_measured([]), "verdict": verdict})
    return rows


def choice_table(choice: Mapping[str, Any]) -> Table:
    """Every pattern that was considered, row by row."""
    rows = choice["table"]
    shown = [
        (
            row["fold"],
            row["pattern"],
            row["sizes"],
            _number(row["share_of_dense"], ".3f"),
            _number(row["predicted_seconds"], ".4f"),
            _number(row["measured_seconds"], ".4f"),
            _number(row["loss"], ".4f"),
            str(row["steps"] or ""),
            row["verdict"],
        )
        for row in rows
    ]
    strong = frozenset(i for i, row in enumerate(rows) if row["verdict"].startswith("chosen"))
    limits = " and ".join(f"{k}={v:g}" for k, v in choice["budget"].items() if v is not None)
    chosen = "; ".join(f"{fold}: {line}" for fold, line in choice["again"].items())
    caption = (
        f"Budget {limits} at {choice['tokens']} tokens. Losses of different steps do not compare. "
        "A fold with a test chose by its own validation rows; a refit took the best over the "
        f"folds. Chosen: {chosen}."
    )
    return Table("Choice of the attention pattern", _HEAD, shown, strong, caption)


def choice_panels(choice: Mapping[str, Any]) -> list[Panel]:
    """Losses of the first round, which every tried pattern has."""
    tried = [row for row in choice["table"] if row["first_loss"] is not None]
    if not tried:
        return []
    frame = pl.DataFrame(
        {
            "fold": [row["fold"] for row in tried],
            "pattern": [row["pattern"] for row in tried],
            "loss": [row["first_loss"] for row in tried],
        }
    )
    above = (pl.col("loss") - pl.col("loss").min().over("fold")).alias("loss above the best")
    several = frame["fold"].n_unique() > 1
    return [
        Panel(
            "Patterns after the first round of short trainings",
            "bar",
            frame.select("fold", "pattern", above),
            "pattern",
            "loss above the best",
            series="fold" if several else None,
            caption="Validation loss, same steps, seed and batches; lower is better.",
        )
    ]


def _predicted(one: Candidate, node: DictConfig, field: Entrants) -> dict[str, Any]:
    from core.attention.auto import attention_cost, said, share_of_dense

    return {
        "pattern": one.name,
        "sizes": said(one),
        "share_of_dense": share_of_dense(one.pattern, field.load, node.causal),
        "predicted_seconds": field.speed.step(attention_cost(one.pattern, field.load)),
    }


def _measured(tries: Sequence[Try]) -> dict[str, Any]:
    if not tries:
        return {"measured_seconds": None, "loss": None, "first_loss": None, "steps": 0}
    first, last = tries[0], tries[-1]
    return {
        "measured_seconds": last.seconds,
        "loss": last.loss,
        "first_loss": first.loss,
        "steps": last.steps,
    }


def _verdict(node: DictConfig, field: Entrants, place: int, name: str, tries: Sequence[Try]) -> str:
    if field.dense is not None and name == field.dense.name:
        return "dense twin: for comparison only"
    words = "chosen" if place == 0 else f"number {place + 1}"
    limit = node.budget.seconds_per_step
    slow = limit is not None and tries[-1].seconds > limit
    return f"{words}; measured slower than the budget" if slow else words


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
