"""Which figures the task `effect` prints of its predictions."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from core.contract import Fold, Metric
from domains.genomics.class_figures import class_metrics
from domains.genomics.data_config import GenomicsData
from domains.genomics.figures import calibration_metric, pooled_metrics
from domains.genomics.shared_sequence import shared_rows
from domains.genomics.source import LabelledSource


def effect_metrics(data: GenomicsData, predictions: pl.DataFrame) -> list[Metric]:
    """Pooled Spearman, or AUROC and AUPRC, with group-bootstrap intervals; where consequences
    are known also the figure of each and their mean; of probabilities their calibration error.

    Raises:
        LongstrandError: predictions that are not finite.
    """
    told = (predictions, data.label_kind, _labels_name(data), f"held-out {data.split.kind}")
    pooled = pooled_metrics(*told)
    if "probability" in predictions.columns:
        pooled += calibration_metric(predictions, *told[2:])
    if not pooled or "consequence" not in predictions.columns:
        return pooled
    return [*pooled, *class_metrics(*told)]


def shared_metrics(
    data: GenomicsData, source: LabelledSource, folds: Sequence[Fold], predictions: pl.DataFrame
) -> list[Metric]:
    """Which share of held-out predictions lies in sequence that their fold has seen labels in
    elsewhere (`shared_rows`), and the figures of the others where there are any."""
    shared = pl.col("row").is_in(shared_rows(source, folds).implode())
    others = predictions.filter(~shared)
    share = 1 - len(others) / len(predictions)
    name, where = _labels_name(data), f"held-out {data.split.kind}"
    found = [Metric(name, where, "ours", "shared_sequence", share, share, share)]
    if 0 < len(others) < len(predictions):
        found += pooled_metrics(others, data.label_kind, name, f"{where}, sequence not shared")
    return found


def _labels_name(data: GenomicsData) -> str:
    return data.variants.rsplit("/", 1)[-1] if data.variants else "variants"
