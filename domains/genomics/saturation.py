"""Every possible single-base substitution of a region or a genome, as records to score.

One record a known base with its three alternatives; bases that are N or ambiguous have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.errors import ConfigError
from domains.genomics.contig import BASES, UNKNOWN, Genome
from domains.genomics.variant_text import VariantText

_REGION = re.compile(r"(.+):([0-9]+)-([0-9]+)", re.DOTALL)
_ALTERNATIVES = [",".join(b for b in BASES[:4] if b != ref) for ref in BASES[:4]]
_COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
# Bases looked at together, so that a chromosome takes no list as long as itself.
_STRETCH = 100_000


def saturated(path: Path, genome: Genome, region: str) -> VariantText:
    """The substitutions of `region`: all, a contig, or contig:start-end (1-based, inclusive).

    Raises:
        ConfigError: a region that the genome does not have.
    """
    spans = _spans(genome, region)
    contigs = "".join(f"##contig=<ID={n},length={len(s)}>\n" for n, s in genome.contigs.items())
    header = ["##fileformat=VCFv4.3\n", *contigs.splitlines(keepends=True)]
    lines = (*(line.encode() for line in header), _COLUMNS)
    return VariantText(path, lines, lambda: _records(genome, spans))


def _spans(genome: Genome, region: str) -> list[tuple[str, int, int]]:
    if region == "all":
        return [(name, 0, len(sequence)) for name, sequence in genome.contigs.items()]
    contig = genome.resolve(region)
    if contig is not None:
        return [(contig, 0, len(genome.contigs[contig]))]
    match = _REGION.fullmatch(region)
    contig = genome.resolve(match[1]) if match else None
    if match is None or contig is None:
        known = ", ".join(list(genome.contigs)[:5])
        raise ConfigError(
            f"config.scoring.saturate: found {region!r}, expected all, a contig of {genome.path} "
            f"({known}) or contig:start-end"
        )
    start, end, length = int(match[2]) - 1, int(match[3]), len(genome.contigs[contig])
    if not 0 <= start < end <= length:
        raise ConfigError(
            f"config.scoring.saturate: found {region!r}, expected 1 <= start <= end <= {length}, "
            f"the length of {contig}"
        )
    return [(contig, start, end)]


def _records(genome: Genome, spans: list[tuple[str, int, int]]) -> Iterator[bytes]:
    for name, first, last in spans:
        sequence = genome.contigs[name]
        for start in range(first, last, _STRETCH):
            codes = sequence[start : min(start + _STRETCH, last)]
            for at in np.flatnonzero(codes != UNKNOWN).tolist():
                ref = int(codes[at])
                place = f"{name}\t{start + at + 1}\t.\t{BASES[ref]}\t{_ALTERNATIVES[ref]}"
                yield f"{place}\t.\t.\t.\n".encode()
