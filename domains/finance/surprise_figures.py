"""Figures of the surprise task: how well fields are foreseen, and where rows have labels, how well
surprise ranks them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from core.contract import Metric
from domains.finance.batches import Gatherer
from domains.finance.config import View
from domains.finance.fields import classes, fields_of
from domains.finance.metrics import (
    ALERTS,
    REPEATS,
    Ranking,
    card_precision,
    cluster_weights,
    interval,
)
from domains.finance.tokens import FinanceTokenizer

NATS = "nats:"
"""Begins the name of a column that holds what a field was worth in nats."""
PROTOCOL = "no_labels"
COUNTED = 100_000
"""Training rows, evenly taken, that say how frequent a class is."""
CHUNK = 20_000


def surprise_metrics(data: str, predictions: pl.DataFrame, seed: int = 0) -> list[Metric]:
    """Mean nats of each field, lower is better; of labelled rows with both classes also average
    precision, ROC AUC and card precision of the score.

    Args:
        predictions: columns label, score, day, entity, and nats:FIELD where fields are foreseen.
    """
    found = [
        Metric(data, PROTOCOL, "ours", f"nats_{name.removeprefix(NATS)}", *_mean(values, seed))
        for name, values in _nats(predictions)
    ]
    known = predictions.filter(pl.col("label").is_not_null())
    label = known["label"].to_numpy().astype(np.float64)
    if not 0 < label.sum() < len(label):
        return found
    ranking = Ranking(known["score"].to_numpy(), label)
    draws = list(cluster_weights(known["entity"].to_numpy(), seed))
    for name, figure in (
        ("average_precision", ranking.average_precision),
        ("roc_auc", ranking.roc_auc),
    ):
        spread = interval(np.array([figure(weight) for weight in draws]))
        found.append(Metric(data, PROTOCOL, "ours", name, figure(None), *spread))
    daily = card_precision(known.with_columns(raw="score"), ALERTS)
    days = np.random.default_rng(seed).integers(len(daily), size=(REPEATS, len(daily)))
    spread = interval(daily[days].mean(axis=1))
    name = f"card_precision_at_{ALERTS}"
    return [*found, Metric(data, PROTOCOL, "ours", name, float(daily.mean()), *spread)]


def _nats(predictions: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    names = [name for name in predictions.columns if name.startswith(NATS)]
    return [(n, predictions.select("entity", nats=n)) for n in names]


def _mean(values: pl.DataFrame, seed: int) -> tuple[float, float, float]:
    """With its interval, entities drawn whole."""
    sums = values.group_by("entity").agg(pl.col("nats").sum(), n=pl.len()).sort("entity")
    total, count = sums["nats"].to_numpy(), sums["n"].to_numpy()
    draw = np.random.default_rng(seed).integers(len(sums), size=(REPEATS, len(sums)))
    drawn = total[draw].sum(axis=1) / count[draw].sum(axis=1)
    return float(total.sum() / count.sum()), *interval(drawn)


def frequencies(
    tokenizer: FinanceTokenizer,
    views: Sequence[View],
    gatherer: Gatherer,
    train: np.ndarray,
    test: np.ndarray,
) -> dict[str, np.ndarray]:
    """By nats:FIELD, [len(test)] nats where all that is known is how frequent a class is in
    training rows."""
    fields = fields_of(tokenizer, views)
    windows = [view.window for view in views]

    def classes_of(places: np.ndarray) -> np.ndarray:
        parts = (places[at : at + CHUNK] for at in range(0, len(places), CHUNK))
        return np.concatenate(
            [classes(fields, gatherer, part, windows, tokenizer.offsets) for part in parts]
        )

    counted = classes_of(train[:: -(-len(train) // COUNTED)])
    judged, found = classes_of(test), {}
    for f, field in enumerate(fields):
        # One more of each, for classes that training rows don't have.
        count = np.bincount(counted[:, f], minlength=field.size) + 1.0
        found[f"{NATS}{field.name}"] = -np.log(count / count.sum())[judged[:, f]]
    return found
