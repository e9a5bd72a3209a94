"""The sequence around an event before and after it, with genes and codons as they then are.

After an insertion or deletion the codons behind it are read in another frame: genes are moved
along with the bases, and their channels and sites are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from domains.genomics.channel import CHANNELS, SPLICE_CAP, channels_of, opposite_channels
from domains.genomics.codon import opposite_sites, sites_within
from domains.genomics.contig import complement
from domains.genomics.event import Event
from domains.genomics.source import Reference
from domains.genomics.transcript import Span, Transcript


@dataclass(frozen=True)
class Piece:
    """Some bases: codes uint8 [n], channels int8 [n, C], codon sites int16 [n]."""

    base: np.ndarray
    channel: np.ndarray
    site: np.ndarray

    def __len__(self) -> int:
        return len(self.base)

    def opposite(self) -> Piece:
        """As the other strand reads it: genes change strand, a track's values stay."""
        channel = self.channel[:, opposite_channels(self.channel.shape[1])]
        site = opposite_sites()[self.site]
        return Piece(complement(self.base)[::-1], channel[::-1], site[::-1])


class Editor:
    """Pieces of a reference around events, `flank` bases on either side where there are so many."""

    def __init__(self, reference: Reference, flank: int) -> None:
        self.reference, self.flank = reference, flank
        self._spans: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def before(self, event: Event) -> Piece:
        """The reference."""
        start, end = self._borders(event)
        contig, reference = event.contig, self.reference
        arrays = (reference.sequence(contig), reference.channels(contig), reference.sites(contig))
        return Piece(*(array[start:end] for array in arrays))

    def after(self, event: Event) -> Piece:
        """The same flanks with the event between them."""
        contig, alt = event.contig, event.alt
        start, end = self._borders(event)
        sequence = self.reference.sequence(contig)
        left, right = sequence[start : event.start], sequence[event.end : end]
        base = np.concatenate([left, alt, right])

        behind = event.start + len(alt)

        def base_at(place: np.ndarray) -> np.ndarray:
            """Codes at places of the edited contig."""
            last = len(sequence) - 1  # an insertion at the very end lies behind it
            found = sequence[np.minimum(place - (place >= behind) * event.longer_by, last)]
            inside = (place >= event.start) & (place < behind)
            found[inside] = alt[place[inside] - event.start]
            return found

        genes = [_moved(t, event) for t in self.near(contig, start, end)]
        channel = channels_of(len(base), genes, start)
        site = sites_within(start, start + len(base), genes, base_at)
        return Piece(base, np.concatenate([channel, self._tracks(event)], axis=1), site)

    def _borders(self, event: Event) -> tuple[int, int]:
        length = len(self.reference.sequence(event.contig))
        return max(0, event.start - self.flank), min(length, event.end + self.flank)

    def _tracks(self, event: Event) -> np.ndarray:
        """Values go with their bases; where another number of bases comes in, nothing is known."""
        before = self.before(event).channel[:, len(CHANNELS) :]
        if not event.longer_by:
            return before
        left = event.start - self._borders(event)[0]
        right = left + event.end - event.start
        unknown = np.zeros((len(event.alt), before.shape[1]), dtype=np.int8)
        return np.concatenate([before[:left], unknown, before[right:]])

    def near(self, contig: str, start: int, end: int, beyond: int = SPLICE_CAP) -> list[Transcript]:
        """Genes that lie within `beyond` bases of [start, end): by default all that can have
        channels there."""
        genes = self.reference.transcripts.get(contig, [])
        if contig not in self._spans:
            lows = np.array([min(a for a, _ in [*t.exons, *t.cds]) for t in genes])
            highs = np.array([max(b for _, b in [*t.exons, *t.cds]) for t in genes])
            self._spans[contig] = (lows, highs)
        lows, highs = self._spans[contig]
        near = np.flatnonzero((lows < end + beyond) & (highs > start - beyond))
        return [genes[i] for i in near]


def _moved(transcript: Transcript, event: Event) -> Transcript:
    """The gene after the event; parts that are lost altogether are left out."""
    exons, cds = (
        [span for span in (_moved_span(s, event, transcript.strand) for s in spans) if span]
        for spans in (transcript.exons, transcript.cds)
    )
    return replace(transcript, exons=exons, cds=cds)


def _moved_span(span: Span, event: Event, strand: int) -> Span | None:
    start, end = (_moved_border(border, event, strand) for border in span)
    return (start, end) if start < end else None


def _moved_border(border: int, event: Event, strand: int) -> int:
    """Where a border comes to lie. Inside the event it keeps its distance from the event's 5' end
    on the gene's strand, which is the same gene whichever strand the contig is written in."""
    point = event.start == event.end == border
    if border <= event.start and not point:
        return border
    if border >= event.end and not point:
        return border + event.longer_by
    if strand > 0:
        return event.start + min(border - event.start, len(event.alt))
    return event.start + len(event.alt) - min(event.end - border, len(event.alt))
