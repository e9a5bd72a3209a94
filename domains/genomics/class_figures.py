"""Figures within each consequence class, and their mean.

A pooled figure rewards telling stop codons from introns; within a class nothing but the allele
itself tells them apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import polars as pl

from core.contract import Metric
from domains.genomics.figures import FIGURES, RESAMPLES, counted

log = logging.getLogger(__name__)

# A class with fewer alleles than this has no figure of its own.
FEWEST = 20


def class_metrics(
    predictions: pl.DataFrame, kind: str, data: str, protocol: str, model: str = "ours"
) -> list[Metric]:
    """`macro_<figure>`, the mean over the consequences, and the figure of each, named in
    `protocol`; the figure is the first of `kind`.

    A consequence counts with 20 alleles or more whose labels differ; alleles without one (null)
    are left out. Intervals are as in
    `pooled_metrics`; a class that lies in one group resamples its alleles, and says so.

    Args:
        predictions: columns row, label, score (raw where there is no score), group, consequence.

    Returns:
        Nothing where fewer than two consequences have a figure.
    """
    column = "score" if "score" in predictions.columns else "raw"
    name, figure = next(iter(FIGURES[kind].items()))
    frame = predictions.drop_nulls("consequence").sort("group", "row")
    label, score = frame["label"].to_numpy(), frame[column].to_numpy()
    group = frame["group"].rank("dense").to_numpy().astype(np.int64) - 1
    terms = frame["consequence"].to_numpy()
    found = {term: np.flatnonzero(terms == term) for term in sorted(set(terms))}
    places = {t: r for t, r in found.items() if len(r) >= FEWEST and np.ptp(label[r]) > 0}
    if len(places) < 2:
        return []
    values = [figure(label[rows], score[rows]) for rows in places.values()]
    of = [counted(figure, label[rows], score[rows]) for rows in places.values()]
    draws = np.full((RESAMPLES, len(places)), np.nan)
    for i, drawn in enumerate(_resampled(list(places.values()), group)):
        for j, (rows, times) in enumerate(zip(places.values(), drawn, strict=True)):
            seen = label[rows[times > 0]]
            if len(seen) > 1 and np.ptp(seen) > 0:
                draws[i, j] = of[j](times)
    out = [_metric(data, protocol, model, f"macro_{name}", float(np.mean(values)), draws.mean(1))]
    for j, (term, rows) in enumerate(places.items()):
        alone = ", interval over alleles" if np.ptp(group[rows]) == 0 else ""
        told = f"{protocol}, {term}{alone}"
        out.append(_metric(data, told, model, name, values[j], draws[:, j]))
    return [metric for metric in out if metric is not None]


def _resampled(places: list[np.ndarray], group: np.ndarray) -> Iterator[list[np.ndarray]]:
    """How many times each row of each class is in each draw; one draw of groups serves all
    classes."""
    draw = np.random.default_rng(0)
    groups = int(group.max()) + 1
    for _ in range(RESAMPLES):
        times = np.bincount(draw.integers(0, groups, groups), minlength=groups)
        yield [
            np.bincount(draw.integers(0, len(rows), len(rows)), minlength=len(rows))
            if np.ptp(group[rows]) == 0
            else times[group[rows]]
            for rows in places
        ]


def _metric(
    data: str, protocol: str, model: str, name: str, value: float, draws: np.ndarray
) -> Metric | None:
    # A draw without one of the classes has no figure to compare with the others.
    known = draws[~np.isnan(draws)]
    if not len(known):
        log.warning("%s, %s: no draw of groups has an interval for %s", data, protocol, name)
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return Metric(data, protocol, model, name, value, float(low), float(high))
