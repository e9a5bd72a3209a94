"""Which held-out sequence is also in what was learned from: repeats and genes that are there twice.

A model may know such bases by heart, so figures are told without them too.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from domains.genomics.contig import UNKNOWN

K = 31  # bases that by chance are found once in 10^18


class KnownSequence:
    """All K-mers of some runs of bases, on both strands."""

    def __init__(self, runs: Iterable[np.ndarray]) -> None:
        parts = [_strandless(run) for run in runs]
        found = [code[known] for code, known in parts]
        self._kmers = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def covers(self, sequence: np.ndarray) -> np.ndarray:
        """bool [length]: bases within a K-mer that the runs have too, on either strand."""
        code, known = _strandless(sequence)
        place = np.searchsorted(self._kmers, code)
        place = np.minimum(place, max(0, len(self._kmers) - 1))
        hit = known & (self._kmers[place] == code) if len(self._kmers) else np.zeros_like(known)
        edges = np.zeros(len(sequence) + 1, dtype=np.int64)
        edges[: len(hit)] += hit
        edges[K : K + len(hit)] -= hit
        return np.cumsum(edges)[:-1] > 0


def _strandless(sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 number of the K-mer that begins at each position, the same on both strands, and whether
    all of its bases are known."""
    n = max(0, len(sequence) - K + 1)
    forth, back = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    known = np.ones(n, dtype=bool)
    for i in range(K):
        base = sequence[i : i + n].astype(np.int64)
        known &= base != UNKNOWN
        forth = forth * 4 + base
        back += (UNKNOWN - 1 - base) << (2 * i)
    return np.minimum(forth, back), known
