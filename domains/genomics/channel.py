"""Gene structure as numbers a base: codon place, length of the coding sequence, exon, intron, UTR,
start codon, splice sites."""

from __future__ import annotations

import numpy as np

from domains.genomics.transcript import Transcript

_KINDS = (
    "codon0",
    "codon1",
    "codon2",
    "start",
    "coding_length",
    "exon",
    "intron",
    "utr5",
    "utr3",
    "donor",
    "acceptor",
)
CHANNELS = tuple(f"{strand}_{kind}" for strand in ("plus", "minus") for kind in _KINDS)
# Channels are kept as int8 hundredths: a quarter of the memory of float32 on a whole genome.
UNIT = 100
SPLICE_CAP = 256
LENGTH_CAP = 2**16


def opposite_channels(count: int) -> list[int]:
    """Which of `count` channels takes the place of each on the other strand: genes change strand,
    tracks, which come after them, stay."""
    half = len(_KINDS)
    return [*range(half, 2 * half), *range(half), *range(2 * half, count)]


def length_level(bases: int) -> float:
    """Length of a coding sequence on a log scale: 0 for one base, 1 from LENGTH_CAP bases on."""
    return float(np.log(min(max(bases, 1), LENGTH_CAP)) / np.log(LENGTH_CAP))


def splice_level(distance: np.ndarray) -> np.ndarray:
    """Nearness to an exon border on a log scale: 1 at the border, 0 from SPLICE_CAP bases on."""
    return 1 - np.log1p(np.minimum(distance, SPLICE_CAP)) / np.log1p(SPLICE_CAP)


def channels_of(length: int, transcripts: list[Transcript], start: int = 0) -> np.ndarray:
    """int8 [length, len(CHANNELS)] in hundredths, of the bases from `start` on.

    Codon place, start codon, exon, intron and UTR are 0 or 1 (several may be 1 where genes
    overlap). Coding length is `length_level`, of the longest gene where they overlap. Donor and
    acceptor are `splice_level`, positive on the intron side of the border and negative on the
    exon side.
    """
    out = np.zeros((length, len(CHANNELS)), dtype=np.int8)
    for transcript in transcripts:
        first = 0 if transcript.strand > 0 else len(_KINDS)
        column = {kind: first + i for i, kind in enumerate(_KINDS)}
        coding = transcript.coding_positions() - start
        here = (coding >= 0) & (coding < length)
        for place in range(3):
            out[coding[place::3][here[place::3]], column[f"codon{place}"]] = UNIT
        out[coding[:3][here[:3]], column["start"]] = UNIT
        level = round(length_level(len(coding)) * UNIT)
        longest = out[:, column["coding_length"]]
        longest[coding[here]] = np.maximum(longest[coding[here]], level)
        for exon in transcript.exons:
            out[_within(*exon, start), column["exon"]] = UNIT
        _mark_untranslated(out, transcript, column, start)
        for low, high in transcript.introns():
            out[_within(low, high, start), column["intron"]] = UNIT
            donor, acceptor = (low, high) if transcript.strand > 0 else (high, low)
            _mark_border(out[:, column["donor"]], donor - start, transcript.strand)
            _mark_border(out[:, column["acceptor"]], acceptor - start, -transcript.strand)
    return out


def _within(low: int, high: int, start: int) -> slice:
    """Bases [low, high) of a contig, in an array that begins at `start`."""
    return slice(max(0, low - start), max(0, high - start))


def _mark_untranslated(
    out: np.ndarray, transcript: Transcript, column: dict[str, int], first: int
) -> None:
    if not transcript.cds:
        return
    low = min(a for a, _ in transcript.cds)
    high = max(b for _, b in transcript.cds)
    left, right = ("utr5", "utr3") if transcript.strand > 0 else ("utr3", "utr5")
    for start, end in transcript.exons:
        out[_within(start, min(end, low), first), column[left]] = UNIT
        out[_within(max(start, high), end, first), column[right]] = UNIT


def _mark_border(track: np.ndarray, border: int, intron_side: int) -> None:
    """Levels around the border between bases `border - 1` and `border`; the nearest border wins,
    and of two as near the one on whose intron's side a base lies: so on either strand."""
    low, high = max(0, border - SPLICE_CAP), min(len(track), border + SPLICE_CAP)
    if low >= high:
        return
    offset = np.arange(low, high) - border
    side = np.where(offset >= 0, 1, -1) * intron_side
    distance = np.where(offset >= 0, offset, -1 - offset)
    level = np.rint(side * splice_level(distance) * UNIT).astype(np.int8)
    held = track[low:high]
    nearer = (np.abs(level) > np.abs(held)) | (level == -held) & (level > 0)
    track[low:high] = np.where(nearer, level, held)
