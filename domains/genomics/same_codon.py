"""Which variants of a file change a codon that another one changes too.

Each is scored alone; where both lie on one chromosome copy the protein sees neither score's change.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from domains.genomics.source import Reference
from domains.genomics.transcript import Transcript

SAME_CODON = "SAME_CODON"
_BASES = frozenset(bytes([b]) for b in b"ACGTacgt")


def shared_codons(reference: Reference, records: Iterable[bytes]) -> dict[str, np.ndarray]:
    """Contig -> sorted positions (0-based) of substitutions that share a codon with one at another
    position; where coding sequences overlap, any of them counts.

    Args:
        records: VCF lines.
    """
    positions: dict[bytes, array[int]] = {}
    for line in records:
        cells = line.split(b"\t", 5)
        if len(cells) < 6 or len(cells[3]) != 1 or cells[4][:1] not in _BASES:
            continue
        if cells[1].isdigit() and len(cells[1]) <= 18:
            positions.setdefault(cells[0], array("q")).append(int(cells[1]) - 1)
    found: dict[str, np.ndarray] = {}
    for given, listed in positions.items():
        contig = reference.genome.resolve(given.decode("utf-8", "replace"))
        if contig is None:
            continue
        together = np.union1d(np.array(listed, dtype=np.int64), found.get(contig, []))
        found[contig] = together.astype(np.int64)
    return {
        contig: _sharing(here, reference.transcripts.get(contig, []))
        for contig, here in found.items()
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
