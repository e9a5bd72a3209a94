"""What a track tells of a base besides its own value: of its neighbours and of its codon."""

from __future__ import annotations

import numpy as np

from domains.genomics.chain import Chain

_REACHES = (1, 2, 5, 10)  # bases on either side of a mean
_STEPS = (-2, -1, 1, 2)  # neighbours, in the direction of reading
_RESIDUES = (1, 3, 7)  # residues on either side of a mean over codons
TRACK_FACTS = (
    "value",
    "known",
    *(f"mean{reach}" for reach in _REACHES),
    *(f"at_{step:+d}" for step in _STEPS),
    *(f"codon{place}" for place in range(3)),
    "codon_highest",
    "codon_lowest",
    *(f"codons{reach}" for reach in _RESIDUES),
)


class TrackFacts:
    """Of one track on one contig.

    Args:
        values: float32 [length], NaN where the track says nothing; None of a contig it has not.
    """

    def __init__(self, values: np.ndarray | None, length: int, chain: Chain) -> None:
        self.values, self.length, self.place = values, length, chain.place
        if values is not None:
            self.codons = _codon_facts(values, chain.codon)

    def window(self, start: int, end: int, strand: np.ndarray) -> np.ndarray:
        """float32 [n, len(TRACK_FACTS)] of bases [start, end); NaN where nothing is known."""
        n = end - start
        out = np.full((n, len(TRACK_FACTS)), np.nan, dtype=np.float32)
        out[:, 1] = 0
        if self.values is None:
            return out
        by = max(*_REACHES, *_STEPS)
        low, high = max(0, start - by), min(self.length, end + by)
        values = np.pad(
            self.values[low:high], (low - start + by, end + by - high), constant_values=np.nan
        )
        out[:, 0] = values[by : by + n]
        out[:, 1] = ~np.isnan(out[:, 0])
        for i, reach in enumerate(_REACHES):
            out[:, 2 + i] = _mean(values, by - reach, 2 * reach + 1, n)
        first = 2 + len(_REACHES)
        for i, step in enumerate(_STEPS):
            sides = [values[by + s : by + s + n] for s in (step, -step)]
            told = np.where(strand > 0, sides[0], sides[1])
            out[:, first + i] = np.where(strand == 0, np.nan, told)
        place = self.place[start:end]
        first += len(_STEPS)
        out[:, first:] = np.where((place >= 0)[:, None], self.codons[place], np.nan)
        return out


def _mean(values: np.ndarray, first: int, width: int, n: int) -> np.ndarray:
    """Mean of the known among `width` values from `first` + i on, for i of n."""
    seen = np.lib.stride_tricks.sliding_window_view(values, width)[first : first + n]
    known = ~np.isnan(seen)
    count = known.sum(axis=1)
    total = np.where(known, seen, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _codon_facts(values: np.ndarray, codon: np.ndarray) -> np.ndarray:
    """float32 [R, ...]: the three values of a codon, the highest and lowest of them, and the mean
    of the first two places, which decide on the amino acid, over the codons around."""
    each = np.where(codon >= 0, values[codon], np.nan).astype(np.float32)
    known = ~np.isnan(each)
    highest = np.where(known, each, -np.inf).max(axis=1)
    lowest = np.where(known, each, np.inf).min(axis=1)
    none = ~known.any(axis=1)
    parts = [*each.T, np.where(none, np.nan, highest), np.where(none, np.nan, lowest)]
    deciding = each[:, :2]
    count = (~np.isnan(deciding)).sum(axis=1)
    mean = np.where(count > 0, np.nansum(deciding, axis=1) / np.maximum(count, 1), np.nan)
    for reach in _RESIDUES:
        padded = np.pad(mean, reach, constant_values=np.nan)
        parts.append(_mean(padded, 0, 2 * reach + 1, len(mean)))
    return np.stack(parts, axis=1).astype(np.float32)
