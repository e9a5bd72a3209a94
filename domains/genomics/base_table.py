"""What counting reaches: tables of how often a base follows, or lies between, others.

The floors of the task mlm. Counts are of both strands of what is learned from. Long contexts are
rare, so each is counted on top of `BELIEF` bases that come as after the shorter one within it
(interpolated context models, as in Witten & Bell 1991, doi:10.1109/18.87000, with a fixed weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domains.genomics.contig import UNKNOWN, complement

BELIEF = 80  # of 5 to 160 the best on yeast's chromosome XIV, learned from I to XIII


@dataclass(frozen=True)
class BaseTable:
    """Log-probabilities of a base by its neighbours at fixed offsets.

    Attributes:
        offsets: of the neighbours, such as -3, -2, -1.
        levels: float32 [4 ** len(offsets), 4], nats.
    """

    offsets: tuple[int, ...]
    levels: np.ndarray

    @staticmethod
    def count(runs: Sequence[np.ndarray], offsets: tuple[int, ...]) -> BaseTable:
        """Of runs of codes, uint8 each."""
        share = np.full((1, 4), 0.25)
        for reach in range(max(abs(offset) for offset in offsets) + 1):
            near = tuple(offset for offset in offsets if abs(offset) <= reach)
            counts = _counts(runs, near)
            prior = share[_without(near, reach)]
            share = (counts + BELIEF * prior) / (counts.sum(1, keepdims=True) + BELIEF)
        return BaseTable(offsets, np.log(share).astype(np.float32))

    def expected(self, sequence: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """float32 [n, 4] of positions of a contig; all bases are alike where a neighbour is N or
        beyond an end."""
        context, known = contexts(sequence, self.offsets)
        even = np.float32(-np.log(4))
        return np.where(known[positions, None], self.levels[context[positions]], even)


def _counts(runs: Sequence[np.ndarray], offsets: tuple[int, ...]) -> np.ndarray:
    """float64 [4 ** len(offsets), 4], of both strands."""
    counts = np.zeros(4 ** (len(offsets) + 1))
    for run in runs:
        other = complement(run)[::-1]
        for strand in (run, other):
            context, known = contexts(strand, offsets)
            known &= strand != UNKNOWN
            both = context[known] * 4 + strand[known]
            counts += np.bincount(both, minlength=len(counts))
    return counts.reshape(-1, 4)


def _without(offsets: tuple[int, ...], reach: int) -> np.ndarray:
    """int64 [4 ** len(offsets)]: the number of each context without neighbours at `reach`."""
    number = np.arange(4 ** len(offsets))
    shorter = np.zeros_like(number)
    for place, offset in enumerate(offsets):
        if abs(offset) < reach:
            shorter = shorter * 4 + number // 4 ** (len(offsets) - 1 - place) % 4
    return shorter


def contexts(sequence: np.ndarray, offsets: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n] number of each position's neighbours in base 4, and whether all are known."""
    reach = max((abs(offset) for offset in offsets), default=0)
    n = len(sequence)
    padded = np.pad(sequence, reach, constant_values=UNKNOWN)
    number, known = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    for offset in offsets:
        neighbour = padded[reach + offset : reach + offset + n]
        known &= neighbour != UNKNOWN
        number = number * 4 + np.minimum(neighbour, UNKNOWN - 1)
    return number, known


FLOORS = {
    "markov_3": (-3, -2, -1),
    "table_5_5": (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5),
}
