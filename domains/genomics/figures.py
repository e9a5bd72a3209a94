"""Figures of merit of held-out predictions with group-bootstrap intervals, and report charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from core.contract import Metric, Panel

RESAMPLES = 200
SHOWN = 3000


def spearman(label: np.ndarray, score: np.ndarray) -> float:
    """Rank correlation; 0 where either side is constant (it then says nothing)."""
    if len(label) < 2 or np.ptp(label) == 0 or np.ptp(score) == 0:
        return 0.0
    return float(cast(Any, spearmanr(label, score)).statistic)


def auroc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; nan where one class is absent."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else float("nan")


def auprc(label: np.ndarray, score: np.ndarray) -> float:
    """Average precision; nan where no positive is present."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(label, score)) if label.sum() > 0 else float("nan")


FIGURES: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "regression": {"spearman": spearman},
    "classification": {"auroc": auroc, "auprc": auprc},
}


def pooled_metrics(
    predictions: pl.DataFrame, kind: str, data: str, protocol: str, model: str = "ours"
) -> list[Metric]:
    """Figures over all held-out rows, the mean over folds, and 95 % intervals.

    Args:
        predictions: columns label, score (raw where there is no score), group and, for the mean
            over folds, fold.

    The interval resamples whole groups (percentile bootstrap, 200 draws): alleles of one group
    are not independent.
    """
    column = "score" if "score" in predictions.columns else "raw"
    frame = predictions.filter(pl.col(column).is_not_nan() & pl.col("label").is_not_null())
    if frame.is_empty():
        return []
    out = []
    for name, figure in FIGURES[kind].items():
        parts = _parts(frame, column)
        value = figure(*_joined(parts))
        if np.isnan(value):
            continue  # one class only: nothing to say
        out.append(Metric(data, protocol, model, name, value, *_interval(parts, figure, value)))
        folds = frame.partition_by("fold") if "fold" in frame.columns else []
        each = np.array([figure(*_joined(_parts(fold, column))) for fold in folds])
        each = each[~np.isnan(each)]
        if len(each) > 1:
            mean = float(each.mean())
            half = float(1.96 * each.std(ddof=1) / np.sqrt(len(each)))
            out.append(
                Metric(data, protocol, model, f"{name}_mean_fold", mean, mean - half, mean + half)
            )
    return out


_Part = tuple[np.ndarray, np.ndarray]


def _parts(frame: pl.DataFrame, column: str) -> list[_Part]:
    ordered = frame.sort("group", "row")
    return [
        (g["label"].to_numpy(), g[column].to_numpy())
        for _, g in ordered.group_by("group", maintain_order=True)
    ]


def _joined(parts: list[_Part]) -> _Part:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _interval(
    parts: list[_Part], figure: Callable[[np.ndarray, np.ndarray], float], value: float
) -> tuple[float, float]:
    if len(parts) < 2:
        return value, value
    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(0, len(parts), len(parts))
        values.append(figure(*_joined([parts[i] for i in chosen])))
    if np.isnan(values).all():
        return value, value
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def report_panels(predictions: pl.DataFrame, kind: str) -> list[Panel]:
    """Predicted against label, the spread of scores, and the figure of each fold."""
    column = "score" if "score" in predictions.columns else "raw"
    # An even stride keeps the order of the genome and needs no seed.
    shown = predictions.gather_every(max(1, len(predictions) // SHOWN))
    columns = shown.select(pl.col("label"), pl.col(column).alias("predicted"))
    name, figure = next(iter(FIGURES[kind].items()))
    panels = []
    if kind == "regression":
        panels.append(
            Panel("Predicted and measured effect", "scatter", columns, "label", "predicted")
        )
    classes = columns.with_columns(
        series=pl.format("label {}", pl.col("label").cast(pl.Int64))
        if kind == "classification"
        else pl.lit("predicted")
    )
    panels.append(Panel("Predicted effects", "histogram", classes, "predicted", series="series"))
    if "fold" in predictions.columns:
        rows = [
            {"fold": str(fold), name: figure(*_joined(_parts(part, column)))}
            for (fold,), part in predictions.sort("fold").group_by("fold", maintain_order=True)
        ]
        caption = "Each fold's held-out groups alone; no allele is scored by a model that saw it."
        panels.append(
            Panel(f"{name} by fold", "bar", pl.DataFrame(rows), "fold", name, caption=caption)
        )
    return panels
