"""Which substitutions of a file change a codon that another one changes too, at another place.

Each is scored alone; where both lie on one chromosome copy the protein sees neither score's change.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from domains.genomics.source import Reference
from domains.genomics.transcript import Transcript

SAME_CODON = "SAME_CODON"


def shared_codons(
    reference: Reference, substitutions: Iterable[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """Contig -> sorted positions (0-based) of substitutions that share a codon with one at another
    position; where coding sequences overlap, any of them counts.

    Args:
        substitutions: contig (the FASTA's name) and position of each, in any order.
    """
    positions: dict[str, array[int]] = {}
    for contig, position in substitutions:
        positions.setdefault(contig, array("q")).append(position)
    return {
        contig: _sharing(np.unique(np.array(here, dtype=np.int64)), reference.transcripts[contig])
        for contig, here in positions.items()
        if contig in reference.transcripts
    }


def _sharing(positions: np.ndarray, transcripts: list[Transcript]) -> np.ndarray:
    """`positions` are sorted."""
    shared = [np.empty(0, dtype=np.int64)]
    for transcript in transcripts:
        coding = transcript.coding_positions()
        codons = coding[: len(coding) // 3 * 3].reshape(-1, 3)
        if not len(codons):
            continue
        ends = np.searchsorted(positions, [codons.min(), codons.max() + 1])
        changed = np.isin(codons, positions[slice(*ends)])
        several = changed.sum(axis=1) > 1
        shared.append(codons[several][changed[several]])
    return np.unique(np.concatenate(shared))
