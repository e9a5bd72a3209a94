"""Runs of bases, and sums over stretches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from domains.genomics.contig import UNKNOWN, Genome

Chosen = Callable[[str], np.ndarray]
"""Contig -> bool [length], which of its bases are counted."""
Expectation = Callable[[str, np.ndarray], np.ndarray]
"""Contig and sorted positions [n] -> log-probabilities (nats) of the four bases [n, 4]."""


class Run(NamedTuple):
    """Bases [start, end) of a contig."""

    contig: str
    start: int
    end: int


def runs_of(stretches: pl.DataFrame) -> list[Run]:
    """Neighbouring stretches (chrom, pos, end) put together, in the order of the rows."""
    runs: list[Run] = []
    for contig, start, end in stretches.select("chrom", "pos", "end").iter_rows():
        if runs and runs[-1].contig == contig and runs[-1].end == start:
            runs[-1] = runs[-1]._replace(end=end)
        else:
            runs.append(Run(contig, start, end))
    return runs


def judged(
    genome: Genome,
    stretches: pl.DataFrame,
    expected: Expectation,
    parts: Mapping[str, Chosen],
) -> pl.DataFrame:
    """How well bases were expected, a stretch at a time.

    Args:
        stretches: columns row, chrom, pos, end, known, group; ordered by row.
        parts: by name, bases that also have a figure of their own.

    Returns:
        row, label (known bases), raw (mean bits of a known base), right (how many were the most
        probable), chrom, pos (1-based), end, group, weight (known bases), and for each part
        bits:NAME and known:NAME (sum of bits, and number, of its known bases); ordered by row.
    """
    contigs = stretches.partition_by("chrom") or [stretches]
    return pl.concat([_judged(genome, one, expected, parts) for one in contigs]).sort("row")


def _judged(
    genome: Genome, rows: pl.DataFrame, expected: Expectation, parts: Mapping[str, Chosen]
) -> pl.DataFrame:
    sums = _sums(genome, rows, expected, parts) if len(rows) else {}
    nothing = np.zeros(len(rows))
    weight = rows["known"].cast(pl.Float64)
    counted = [f"{of}:{name}" for name in parts for of in ("bits", "known")]
    return rows.select(
        "row",
        weight.alias("label"),
        pl.Series("raw", sums.get("bits", nothing)) / weight,
        pl.Series("right", sums.get("right", nothing)),
        "chrom",
        pl.col("pos") + 1,
        "end",
        "group",
        weight.alias("weight"),
        *(pl.Series(name, sums.get(name, nothing)) for name in counted),
    )


def _sums(
    genome: Genome, rows: pl.DataFrame, expected: Expectation, parts: Mapping[str, Chosen]
) -> dict[str, np.ndarray]:
    """Sums over each stretch of one contig."""
    contig = rows["chrom"][0]
    size = (rows["end"] - rows["pos"]).to_numpy()
    starts = np.cumsum(size) - size
    positions = np.arange(size.sum()) + np.repeat(rows["pos"].to_numpy() - starts, size)
    base = genome.contigs[contig][positions].astype(np.int64)
    known = base != UNKNOWN
    level = expected(contig, positions)
    own = np.take_along_axis(level, np.minimum(base, UNKNOWN - 1)[:, None], axis=1)[:, 0]
    bits = np.where(known, -own / np.log(2), 0.0)
    each = {"bits": bits, "right": known & (level.argmax(1) == base)}
    for name, chosen in parts.items():
        some = known & chosen(contig)[positions]
        each |= {f"bits:{name}": np.where(some, bits, 0.0), f"known:{name}": some}
    return {name: np.add.reduceat(of.astype(np.float64), starts) for name, of in each.items()}
