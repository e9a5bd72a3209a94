"""Stretches of contigs whose labels a model has seen, as text that a bundle carries.

`contig:start-end`, 0-based and half-open. Names of contigs may hold `:` and `-` themselves
(HLA-A*01:01), so the text is read from its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from core.errors import DataContractError
from domains.genomics.contig import Genome
from domains.genomics.extent import distances, extents

# Before an interval whose bases, not labels, were learned from (task mlm); no name of a contig in
# a FASTA has a space.
SEQUENCE = "sequence "
_INTERVAL = re.compile(r"(.+):([0-9]+)-([0-9]+)", re.DOTALL)


def write_intervals(rows: pl.DataFrame, gap: int) -> list[str]:
    """Stretches that hold the alleles of `rows` (chrom, pos and, with events, end); gaps up to
    `gap` are bridged."""
    out = []
    for (name,), part in rows.sort("chrom", "pos").group_by("chrom", maintain_order=True):
        first, last = extents(part)
        order = np.argsort(first, kind="stable")
        first, furthest = np.maximum(first[order], 0), np.maximum.accumulate(last[order])
        cut = np.flatnonzero(first[1:] - furthest[:-1] > gap)
        starts = first[np.concatenate([[0], cut + 1])]
        ends = furthest[np.concatenate([cut, [len(first) - 1]])]
        out += [f"{name}:{a}-{b + 1}" for a, b in zip(starts, ends, strict=True)]
    return out


def rows_inside(variants: pl.DataFrame, intervals: Sequence[str], genome: Genome) -> pl.Series:
    """Row ids of `variants` (row, chrom, pos and, with events, end) that have a base in any of the
    intervals.

    Args:
        genome: its aliases map the intervals' contigs where another FASTA names them otherwise.

    Raises:
        DataContractError: an interval that `write_intervals` did not write.
    """
    by_contig: dict[str, list[tuple[int, int]]] = {}
    for text in intervals:
        name, start, end = _read(text)
        by_contig.setdefault(genome.resolve(name) or name, []).append((start, end))
    inside = np.zeros(len(variants), dtype=bool)
    chrom, (first, last) = variants["chrom"].to_numpy(), extents(variants)
    for name, spans in by_contig.items():
        here = np.flatnonzero(chrom == name)
        starts, ends = np.array(spans, dtype=np.int64).T
        inside[here] = distances(first[here], last[here], starts, ends - 1) == 0
    return variants["row"].filter(pl.Series(inside, dtype=pl.Boolean))


def _read(text: str) -> tuple[str, int, int]:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise DataContractError(
            f"bundle.yaml: label_intervals holds {text!r}, expected contig:start-end; was the "
            "bundle made by another version?"
        )
    return match[1], int(match[2]), int(match[3])
