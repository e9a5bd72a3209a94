"""Floors: what a model must beat to have learnt more than position and consequence class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from core.contract import Fold, Task
from domains.genomics.consequence import rank_of
from domains.genomics.kmer_floor import kmer_floor
from domains.genomics.source import LabelledSource

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig

UNTRAINED = "untrained"
NEIGHBOURS = 5


def floors_of(source: LabelledSource, fold: Fold) -> dict[str, pl.DataFrame]:
    """What each floor but the untrained network tells of the fold's test rows, as `frame_of` has
    it; where no consequence is known there is no `consequence_rank`, where some are not known they
    have the mean rank of those that are."""
    train, test = source.select(fold.train), source.select(fold.test)
    classes = source.config.data.label_kind == "classification"
    predicted = {
        "position_knn": position_knn(train, test),
        "kmer": kmer_floor(source.reference, train, test, classes),
    }
    known = source.consequences()
    if known is not None:
        rank_train, rank_test = (_ranks(known, rows) for rows in (train, test))
        sign = _sign(rank_train, train["label"].to_numpy()) or 1
        ranks = rank_of(known["consequence"]).drop_nulls().to_numpy()
        if len(ranks):
            told = np.where(np.isnan(rank_test), ranks.mean(), rank_test)
            predicted["consequence_rank"] = sign * told
    return {name: frame_of(source, fold, raw) for name, raw in predicted.items()}


def frame_of(source: LabelledSource, fold: Fold, raw: np.ndarray) -> pl.DataFrame:
    """Columns row, label, raw, group, weight and, with an annotation, consequence.

    Args:
        raw: [n] of the fold's test rows, ordered by row.
    """
    test, kept = source.select(fold.test), ["group", "weight"]
    known = source.consequences()
    if known is not None:
        test = test.join(known, on="row", how="left", maintain_order="left")
        kept.append("consequence")
    return test.select("row", "label", pl.Series("raw", raw, dtype=pl.Float64), *kept)


def untrained(
    task: Task, source: LabelledSource, rows: pl.Series, encoder: EncoderConfig
) -> tuple[Any, Any]:
    """Tokenizer of these training rows and the task's network as it is before its first step, in
    evaluation mode; the same numbers every time, and no draw of others is changed."""
    import torch

    tokenizer = task.fit_tokenizer(source, rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tokenizer, task.module(tokenizer, encoder).eval()


def position_knn(train: pl.DataFrame, test: pl.DataFrame) -> np.ndarray:
    """Mean label at the 5 nearest training positions of the contig; float64 [n test].

    A contig without training labels gets the mean of all training labels.
    """
    out = np.full(len(test), float(np.mean(train["label"].to_numpy())))
    chrom = test["chrom"].to_numpy()
    for name in test["chrom"].unique():
        sites = (
            train.filter(pl.col("chrom") == name)
            .group_by("pos")
            .agg(pl.col("label").mean())
            .sort("pos")
        )
        if sites.is_empty():
            continue
        here = np.flatnonzero(chrom == name)
        pos = test["pos"].to_numpy()[here]
        out[here] = _nearest_mean(sites["pos"].to_numpy(), sites["label"].to_numpy(), pos)
    return out


def _nearest_mean(known: np.ndarray, label: np.ndarray, pos: np.ndarray) -> np.ndarray:
    k = min(NEIGHBOURS, len(known))
    # The k nearest of a sorted list lie among the k on either side of the insertion point.
    at = np.searchsorted(known, pos)[:, None] + np.arange(-k, k)
    valid = (at >= 0) & (at < len(known))
    at = np.clip(at, 0, len(known) - 1)
    distance = np.where(valid, np.abs(known[at] - pos[:, None]), np.iinfo(np.int64).max)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return label[np.take_along_axis(at, nearest, axis=1)].mean(axis=1)


def _ranks(consequences: pl.DataFrame, rows: pl.DataFrame) -> np.ndarray:
    """float64 [n] gravity of the consequence of each row, nan where it is not known."""
    joined = rows.select("row").join(consequences, on="row", how="left", maintain_order="left")
    return rank_of(joined["consequence"]).to_numpy()


def damaging_direction(source: LabelledSource, rows: pl.DataFrame) -> int:
    """+1 where graver consequences have higher labels in `rows`, -1 where lower, 0 where nothing
    tells (no annotation, one consequence or one label only)."""
    known = source.consequences()
    return 0 if known is None else _sign(_ranks(known, rows), rows["label"].to_numpy())


def _sign(rank: np.ndarray, label: np.ndarray) -> int:
    known = ~np.isnan(rank)
    rank, label = rank[known], label[known]
    if len(rank) < 2 or np.ptp(rank) == 0 or np.ptp(label) == 0:
        return 0
    return 1 if cast(Any, spearmanr(rank, label)).statistic >= 0 else -1
