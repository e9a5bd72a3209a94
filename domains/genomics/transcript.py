"""A gene model: where a transcript's exons and its coding sequence lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np

Span = tuple[int, int]
# A gap this short between coding parts is ribosomal slippage, not an intron.
SHORTEST_INTRON = 10


@dataclass
class Transcript:
    """One gene model.

    Attributes:
        contig: name in the FASTA.
        strand: +1 or -1.
        exons: ascending spans.
        cds: coding spans in the order of translation; they may overlap (ribosomal slippage).
        frame: bases to skip at the start of the CDS until the first whole codon.
        gene: name of the gene, empty where the file tells none.
    """

    name: str
    contig: str
    strand: int
    exons: list[Span] = field(default_factory=list)
    cds: list[Span] = field(default_factory=list)
    frame: int = 0
    gene: str = ""

    def coding_positions(self) -> np.ndarray:
        """int64 [n] contig positions in the order of translation, from the first whole codon."""
        parts = [np.arange(a, b)[:: self.strand] for a, b in self.cds]
        return np.concatenate(parts)[self.frame :] if parts else np.empty(0, dtype=np.int64)

    def unread(self) -> list[int]:
        """Coding positions in no whole codon, at the ends of a CDS that is not known whole or, as
        in mitochondria, gets the rest of its stop codon from the tail of the messenger."""
        rest = (sum(b - a for a, b in self.cds) - self.frame) % 3
        ends = (self.cds, self.strand, self.frame), (self.cds[::-1], -self.strand, rest)
        return [p for spans, step, n in ends for p in _first(spans, step, n)]

    def introns(self) -> list[Span]:
        """Ascending gaps between exons."""
        return introns_of(self.exons)


@dataclass
class Annotation:
    """What a file of gene models tells.

    Attributes:
        contigs: all that the file mentions, with or without a transcript.
        circular: contigs on which a feature over the origin ends past the last base (GFF3).
    """

    transcripts: list[Transcript]
    contigs: set[str]
    circular: set[str] = field(default_factory=set)


def _first(spans: list[Span], step: int, n: int) -> list[int]:
    """The first `n` positions of spans, each read upwards (step 1) or downwards (-1)."""
    bases = (p for a, b in spans for p in range(a, b)[::step])
    return list(islice(bases, n))


def introns_of(exons: list[Span]) -> list[Span]:
    """Ascending gaps between ascending spans, but for those too short for an intron."""
    gaps = ((a[1], b[0]) for a, b in pairwise(exons))
    return [(start, end) for start, end in gaps if end - start >= SHORTEST_INTRON]


def merged(spans: list[Span]) -> list[Span]:
    """Ascending union; touching spans are joined."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out
