"""How well bases fit a splice site, by the base frequencies of human ones.

The weights are log2 of frequency over a quarter (Zhang 1998, Hum. Mol. Genet. 7:919). An offset
counts bases from an exon's border in the gene's direction of reading: 1 is the first base on the
intron's side, -1 the first on the exon's.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from domains.genomics.channel import SPLICE_CAP
from domains.genomics.contig import UNKNOWN
from domains.genomics.transcript import Transcript

# Percent of A, C, G, T, in the direction of reading.
_DONOR = (  # 3 bases of the exon, 6 of the intron
    (38, 62, 12, 0, 0, 71, 73, 11, 21),
    (31, 10, 4, 0, 0, 2, 6, 6, 10),
    (18, 12, 77, 100, 0, 24, 8, 75, 14),
    (13, 16, 7, 0, 100, 3, 13, 8, 55),
)
_ACCEPTOR = (  # 14 bases of the intron, 3 of the exon
    (15, 14, 13, 11, 10, 10, 11, 12, 13, 11, 10, 26, 7, 100, 0, 26, 24),
    (24, 21, 20, 22, 21, 22, 25, 28, 28, 25, 22, 25, 55, 0, 0, 11, 15),
    (10, 12, 10, 9, 10, 9, 10, 10, 8, 5, 5, 15, 1, 0, 100, 50, 20),
    (51, 53, 57, 58, 59, 59, 54, 50, 51, 59, 63, 33, 37, 0, 0, 13, 41),
)
DONOR_EXON, DONOR_INTRON = 3, 6
ACCEPTOR_INTRON, ACCEPTOR_EXON = 14, 3
WIDEST = ACCEPTOR_INTRON + ACCEPTOR_EXON
_SMALL = 0.5  # percent, added to each frequency


@cache
def donor_weights() -> np.ndarray:
    """float32 [9, 5], of A, C, G, T and an unknown base (0)."""
    return _weights(_DONOR)


@cache
def acceptor_weights() -> np.ndarray:
    """float32 [17, 5]."""
    return _weights(_ACCEPTOR)


def _weights(percent: tuple[tuple[int, ...], ...]) -> np.ndarray:
    weights = np.log2((np.array(percent).T + _SMALL) / (25 + _SMALL))
    return np.pad(weights, ((0, 0), (0, UNKNOWN + 1 - 4))).astype(np.float32)


def offsets(length: int, transcripts: list[Transcript]) -> tuple[np.ndarray, np.ndarray]:
    """int16 [length] offset from the nearest donor, and from the nearest acceptor; 0 farther than
    `SPLICE_CAP` from any. Of two as near it is that on whose intron's side the base lies."""
    donor, acceptor = (np.zeros(length, dtype=np.int16) for _ in range(2))
    for t in transcripts:
        for start, end in t.introns():
            first, last = (start, end) if t.strand > 0 else (end, start)
            _mark(donor, first, t.strand)
            _mark(acceptor, last, -t.strand)
    return donor, acceptor


def _mark(out: np.ndarray, border: int, side: int) -> None:
    """The border lies before base `border`; the intron is on its right where side is 1."""
    low, high = max(0, border - SPLICE_CAP), min(len(out), border + SPLICE_CAP)
    right = np.arange(low, high) - border
    offset = side * np.where(right >= 0, right + 1, right)
    held = out[low:high]
    nearer = (held == 0) | (np.abs(offset) < np.abs(held)) | (offset == -held) & (offset > 0)
    out[low:high] = np.where(nearer, offset, held)


def change_of_site(
    sense: np.ndarray, donor: np.ndarray, acceptor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, 4] each: how much the fit of the donor (acceptor) that a base belongs to changes
    with each alternative; 0 for bases of none.

    Args:
        sense: [n] base codes in the gene's direction of reading, as are the alternatives.
        donor, acceptor: [n] offsets.
    """
    place = np.where(donor < 0, donor + DONOR_EXON, donor + DONOR_EXON - 1)
    one = _change(sense, np.where(donor == 0, -1, place), donor_weights())
    place = np.where(acceptor < 0, ACCEPTOR_INTRON - 1 - acceptor, ACCEPTOR_INTRON - acceptor)
    return one, _change(sense, np.where(acceptor == 0, -1, place), acceptor_weights())


def _change(sense: np.ndarray, place: np.ndarray, weights: np.ndarray) -> np.ndarray:
    inside = (place >= 0) & (place < len(weights))
    at = weights[np.where(inside, place, 0)]
    change = at[:, :4] - np.take_along_axis(at, sense.astype(np.intp)[:, None], axis=1)
    return np.where(inside[:, None], change, 0).astype(np.float32)


def gain_of_site(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 [n, 4]: by how much the best site that a base would be part of fits better with each
    alternative than the best with the base as it is; not below 0.

    Args:
        codes: [n + 2 (W - 1)] base codes in the direction of reading, of n bases and W - 1 beyond
            either end.
        weights: [W, 5].
    """
    width = len(weights)
    n = len(codes) - 2 * (width - 1)
    windows = np.lib.stride_tricks.sliding_window_view(codes, width)
    fit = weights[np.arange(width), windows].sum(axis=1)
    sense = codes[width - 1 : width - 1 + n]
    before = np.full(n, -np.inf, dtype=np.float32)
    after = np.full((n, 4), -np.inf, dtype=np.float32)
    for k in range(width):
        here = fit[width - 1 - k : width - 1 - k + n]
        before = np.maximum(before, here)
        after = np.maximum(after, (here - weights[k][sense])[:, None] + weights[k, :4])
    return np.maximum(after - before[:, None], 0)
