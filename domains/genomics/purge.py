"""Labels that tell of a held-out one: those near it, and those of a codon that it changes too.

An intron may cut a codon, so that two bases of one amino acid lie kilobases apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl

from domains.genomics.extent import distances, extents
from domains.genomics.transcript import Transcript


class Purged(NamedTuple):
    """Rows that are left, how many lay too near, and how many more shared a codon."""

    kept: pl.DataFrame
    near: int
    in_codon: int


@dataclass(frozen=True)
class Purge:
    """What no label may share with one that is held out.

    Args:
        distance: bases; a label within so many of a held-out one goes.
        codons: contig -> int64 [n, 3] positions of codons; a label on any base of a codon that has
            a held-out one goes too. None where there is no annotation.
    """

    distance: int
    codons: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        variants: pl.DataFrame,
        transcripts: Mapping[str, Iterable[Transcript]],
        distance: int,
    ) -> Purge:
        """With the codons of every transcript that have a label.

        Args:
            variants: columns chrom, pos and, with events, end.
            transcripts: by contig.
        """
        codons = {}
        for (contig,), rows in variants.group_by("chrom"):
            theirs = extents(rows)
            here = [_touched(t, *theirs) for t in transcripts.get(str(contig), ())]
            codons[contig] = np.concatenate([np.empty((0, 3), dtype=np.int64), *here])
        return cls(distance, codons)

    def apply(self, rows: pl.DataFrame, held: pl.DataFrame) -> Purged:
        """`rows` without those that may not be seen beside `held`; columns chrom, pos and, with
        events, end."""
        near, shared = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        chrom, (first, last) = rows["chrom"].to_numpy(), extents(rows)
        for (contig,), others in held.group_by("chrom"):
            here, theirs = np.flatnonzero(chrom == contig), extents(others)
            near[here] = distances(first[here], last[here], *theirs) <= self.distance
            codons = self.codons.get(str(contig))
            if codons is None or not len(codons):
                continue
            closed = codons[(distances(codons, codons, *theirs) == 0).any(axis=1)].ravel()
            if len(closed):
                shared[here] = distances(first[here], last[here], closed, closed) == 0
        kept = rows.filter(pl.Series(~(near | shared), dtype=pl.Boolean))
        return Purged(kept, int(near.sum()), int((shared & ~near).sum()))


def _touched(transcript: Transcript, firsts: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """int64 [n, 3] codons of the transcript with a base in any of the extents."""
    if not transcript.cds:
        return np.empty((0, 3), dtype=np.int64)
    low, high = min(a for a, _ in transcript.cds), max(b for _, b in transcript.cds)
    within = (lasts >= low) & (firsts < high)
    if not within.any():
        return np.empty((0, 3), dtype=np.int64)
    coding = transcript.coding_positions()
    codons = coding[: len(coding) // 3 * 3].reshape(-1, 3)
    touched = distances(codons, codons, firsts[within], lasts[within]) == 0
    return codons[touched.any(axis=1)]
