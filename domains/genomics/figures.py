"""Figures of merit of held-out predictions with group-bootstrap intervals, and report charts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from core.calibration import expected_calibration_error
from core.contract import Metric, Panel
from domains.genomics.counted import CountedAuroc, CountedSpearman
from domains.genomics.finite import require_finite

log = logging.getLogger(__name__)

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


Figure = Callable[[np.ndarray, np.ndarray], float]

FIGURES: dict[str, dict[str, Figure]] = {
    "regression": {"spearman": spearman},
    "classification": {"auroc": auroc, "auprc": auprc},
}


def counted(figure: Figure, label: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], float]:
    """The figure of rows each of which is counted so many times (int [n]) as it is asked for."""
    if figure is spearman:
        return CountedSpearman(label, score)
    if figure is auroc:
        return CountedAuroc(label, score)

    def repeated(times: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(label)), times)
        return figure(label[rows], score[rows])

    return repeated


def pooled_metrics(
    predictions: pl.DataFrame, kind: str, data: str, protocol: str, model: str = "ours"
) -> list[Metric]:
    """Figures over all held-out rows, the mean over folds, and 95 % intervals.

    Args:
        predictions: columns label, score (raw where there is no score), group and, for the mean
            over folds, fold.

    The interval resamples whole groups (percentile bootstrap, 200 draws): alleles of one group
    are not independent. Where all alleles are of one group it resamples alleles, and `protocol`
    says so. Fewer than 2 alleles, or one class only, have no figure.

    Raises:
        LongstrandError: a label or score that is not finite.
    """
    column = "score" if "score" in predictions.columns else "raw"
    frame = predictions
    for checked in ("label", column):
        rows = frame["row"]
        require_finite(frame[checked].to_numpy(), lambda i, c=checked, r=rows: f"{c} of row {r[i]}")
    if len(frame) < 2:
        log.warning("%s: %d alleles to compare, too few for any figure", data, len(frame))
        return []
    if frame["group"].n_unique() < 2:
        protocol += ", interval over alleles"
    out = []
    for name, figure in FIGURES[kind].items():
        parts = _parts(frame, column)
        value = figure(*_joined(parts))
        if np.isnan(value):
            log.warning("%s: no %s, the labels are of one class", data, name)
            continue
        out.append(Metric(data, protocol, model, name, value, *_interval(parts, figure)))
        if "fold" in frame.columns:
            each = [figure(*_joined(_parts(f, column))) for f in frame.partition_by("fold")]
            out += _mean_of_folds(out[-1], np.array(each))
    return out


def calibration_metric(predictions: pl.DataFrame, data: str, protocol: str) -> list[Metric]:
    """`calibration_error`: how far probabilities lie from the frequencies of the positive class,
    with an interval as in `pooled_metrics`; nothing where fewer than 2 alleles are compared.

    Args:
        predictions: columns row, label (0 or 1), probability, group.
    """
    if len(predictions) < 2:
        return []
    if predictions["group"].n_unique() < 2:
        protocol += ", interval over alleles"
    parts, figure = _parts(predictions, "probability"), expected_calibration_error
    value, interval = figure(*_joined(parts)), _interval(parts, figure)
    return [Metric(data, protocol, "ours", "calibration_error", value, *interval)]


def _mean_of_folds(pooled: Metric, each: np.ndarray) -> list[Metric]:
    each = each[~np.isnan(each)]  # a fold of one class has no figure of its own
    if len(each) < 2:
        return []
    mean = float(each.mean())
    half = float(1.96 * each.std(ddof=1) / np.sqrt(len(each)))
    name = f"{pooled.metric}_mean_fold"
    return [replace(pooled, metric=name, value=mean, low=mean - half, high=mean + half)]


_Part = tuple[np.ndarray, np.ndarray]


def _parts(frame: pl.DataFrame, column: str) -> list[_Part]:
    ordered = frame.sort("group", "row")
    return [
        (g["label"].to_numpy(), g[column].to_numpy())
        for _, g in ordered.group_by("group", maintain_order=True)
    ]


def _joined(parts: list[_Part]) -> _Part:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _interval(parts: list[_Part], figure: Figure) -> tuple[float, float]:
    label, score = _joined(parts)
    of = counted(figure, label, score)
    sizes = [len(part[0]) for part in parts] if len(parts) > 1 else [1] * len(label)
    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(0, len(sizes), len(sizes))
        values.append(of(np.repeat(np.bincount(chosen, minlength=len(sizes)), sizes)))
    # A draw of one class has no figure; one in two or more of the draws has both.
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
