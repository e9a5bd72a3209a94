"""What an allele does to the sequence: bases [start, end) become other ones, however it is spelled.

An insertion or deletion in repeated sequence can be written at several places. Its event is the
whole interval over which it can be moved (fully justified; Bayat et al. 2017,
doi:10.1093/bioinformatics/btw748), so that all spellings, and both strands, have the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domains.genomics.contig import BASES, UNKNOWN


@dataclass(frozen=True)
class Event:
    """Bases [start, end) (0-based) of a contig's plus strand become `alt`, uint8 codes [m].

    Attributes:
        lost, gained: bases of the shortest spelling of an insertion or deletion; of another event
            all that it replaces.
    """

    contig: str
    start: int
    end: int
    alt: np.ndarray
    lost: int
    gained: int

    @property
    def substitution(self) -> bool:
        """Whether one base becomes another one."""
        return self.lost == self.gained == 1

    @property
    def longer_by(self) -> int:
        """Bases gained in all; negative where some are lost."""
        return self.gained - self.lost

    @property
    def length(self) -> int:
        """Bases of the longer of the two sides, with all over which it can be moved."""
        return max(self.end - self.start, len(self.alt))

    def spelled(self, sequence: np.ndarray) -> tuple[int, str, str]:
        """Position (0-based), REF and ALT of a VCF: as short and as far left as can be."""
        gained = self.alt[: self.gained]
        if self.lost and self.gained:
            return self.start, letters_of(sequence[self.start : self.end]), letters_of(gained)
        # An insertion or deletion holds on to the base before it, the first one to that behind.
        if self.start == 0:
            ref = sequence[: self.lost + 1]
            return 0, letters_of(ref), letters_of(np.append(gained, ref[-1]))
        pos = self.start - 1
        ref = sequence[pos : self.start + self.lost]
        return pos, letters_of(ref), letters_of(np.append(ref[0], gained))


def letters_of(codes: np.ndarray) -> str:
    """Codes -> A, C, G, T, N."""
    return "".join(BASES[code] for code in codes)


def event_of(
    contig: str, sequence: np.ndarray, pos: int, ref: np.ndarray, alt: np.ndarray
) -> Event:
    """The event of an allele that is not the reference.

    Args:
        sequence: uint8 [length] codes of the contig.
        pos: 0-based place of `ref`.
        ref, alt: uint8 codes as written; `ref` is what the sequence has there.
    """
    shared = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
    shared = _shared(ref, alt)
    start, end, alt = pos + shared, pos + len(ref), alt[shared:]
    if start < end and len(alt):
        return Event(contig, start, end, alt, len(ref) - shared, len(alt))
    return _justified(contig, sequence, start, end, alt)


def _shared(a: np.ndarray, b: np.ndarray) -> int:
    """How many bases two sequences have in common from their start."""
    n = min(len(a), len(b))
    unlike = np.flatnonzero(a[:n] != b[:n])
    return int(unlike[0]) if len(unlike) else n


def _justified(contig: str, sequence: np.ndarray, start: int, end: int, alt: np.ndarray) -> Event:
    """Of a deletion of [start, end), or of an insertion of `alt` before `start`."""
    # Moving by a base rotates what is deleted or inserted: only its length stays.
    moved = (sequence[start:end] if start < end else alt).tolist()
    unit, low, high = len(moved), start, end
    while low > 0 and sequence[low - 1] == moved[(low - 1 - start) % unit] != UNKNOWN:
        low -= 1
    while high < len(sequence) and sequence[high] == moved[(high - start) % unit] != UNKNOWN:
        high += 1
    if start < end:
        return Event(contig, low, high, sequence[low : high - unit], unit, 0)
    inserted = np.array([moved[(low - start + i) % unit] for i in range(unit)], dtype=np.uint8)
    return Event(contig, low, high, np.concatenate([inserted, sequence[low:high]]), 0, unit)
