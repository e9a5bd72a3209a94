"""An event is one thing, however it is spelled and whichever strand it is read on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domains.genomics.codon import coding_sites
from domains.genomics.contig import Genome, encode
from domains.genomics.contig_name import ContigNames
from domains.genomics.edited import Editor, Piece
from domains.genomics.event import Event, event_of
from domains.genomics.source import Reference
from domains.genomics.transcript import Transcript

LENGTH = 700


def reference_of(sequence: np.ndarray, transcripts: list[Transcript], name: str = "a") -> Reference:
    genome = Genome(Path("a.fa"), {name: sequence}, ContigNames([name], {}), "")
    return Reference(genome, transcripts)


def _genes(strand: int = 1, moved: int = 0, behind: int = LENGTH) -> list[Transcript]:
    """Two exons; what lies at `behind` or later is `moved` along."""

    def at(place: int) -> int:
        return place + moved * (place >= behind)

    spans = [(120, 260), (340, 520)]
    coding = [(150, 260), (340, 480)]
    exons, cds = ([(at(a), at(b)) for a, b in of] for of in (spans, coding))
    return [Transcript("t", "a", strand, exons, cds[::strand], 0, "g")]


def mirrored(transcripts: list[Transcript], length: int) -> list[Transcript]:
    def spans(of: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(length - b, length - a) for a, b in of]

    return [
        Transcript(t.name, t.contig, -t.strand, sorted(spans(t.exons)), spans(t.cds), t.frame)
        for t in transcripts
    ]


def opposite(codes: np.ndarray) -> np.ndarray:
    return (3 - codes[::-1]).astype(np.uint8)


def _equal(a: Piece, b: Piece) -> None:
    np.testing.assert_array_equal(a.base, b.base)
    np.testing.assert_array_equal(a.channel, b.channel)
    np.testing.assert_array_equal(a.site, b.site)


def _told(event: Event) -> tuple[object, ...]:
    return event.start, event.end, event.alt.tolist(), event.lost, event.gained


def test_every_spelling_of_an_indel_is_one_event_on_either_strand() -> None:
    draw = np.random.default_rng(0)
    seen: dict[tuple[int, ...], set[object]] = {}
    for _ in range(12):
        sequence = draw.integers(0, 2, 14).astype(np.uint8)  # two letters: many repeats
        seen.clear()
        for start in range(14):
            for end in range(start, min(14, start + 4)):
                for new in ([], [0], [1], [0, 1], [1, 1]):
                    alt = np.array(new, dtype=np.uint8)
                    edited = np.concatenate([sequence[:start], alt, sequence[end:]])
                    if np.array_equal(edited, sequence):
                        continue
                    event = event_of("a", sequence, start, sequence[start:end], alt)
                    rebuilt = [*sequence[: event.start], *event.alt, *sequence[event.end :]]
                    assert rebuilt == edited.tolist()
                    mirror = event_of(
                        "a",
                        opposite(sequence),
                        14 - end,
                        opposite(sequence[start:end]),
                        opposite(alt),
                    )
                    there = (14 - mirror.end, 14 - mirror.start, opposite(mirror.alt).tolist())
                    assert _told(event)[:3] == there
                    if not (event.lost and event.gained):
                        seen.setdefault(tuple(edited.tolist()), set()).add(str(_told(event)))
                    pos, ref, letters = event.spelled(sequence)
                    again = event_of("a", sequence, pos, encode(ref), encode(letters))
                    assert _told(again) == _told(event)
        assert all(len(events) == 1 for events in seen.values())
        assert len(seen) > 20


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize(
    ("start", "end", "alt"),
    [
        (200, 200, "ACGTA"),
        (200, 202, ""),
        (300, 301, ""),
        (400, 402, "GG"),
        (400, 403, "A"),
        (100, 100, "T"),
        (135, 139, "C"),
    ],
)
def test_after_an_event_genes_and_codons_are_those_of_the_edited_genome(
    strand: int, start: int, end: int, alt: str
) -> None:
    sequence = np.random.default_rng(1).integers(0, 4, LENGTH).astype(np.uint8)
    sequence[[199, 200, 201, 202, 203]] = [0, 1, 2, 3, 1]
    reference = reference_of(sequence, _genes(strand))
    new = encode(alt)
    event = event_of("a", sequence, start, sequence[start:end], new)
    edited = np.concatenate([sequence[:start], new, sequence[end:]])
    told = reference_of(edited, _genes(strand, event.longer_by, end))
    editor = Editor(reference, 90)
    low, high = event.start - 90, event.end + event.longer_by + 90
    expected = Piece(
        edited[low:high],
        told.channels("a")[low:high],
        coding_sites(edited, _genes(strand, event.longer_by, end))[low:high],
    )
    _equal(editor.after(event), expected)
    old = Piece(sequence, reference.channels("a"), reference.sites("a"))
    for mine, whole in zip(vars(editor.before(event)).values(), vars(old).values(), strict=True):
        np.testing.assert_array_equal(mine, whole[event.start - 90 : event.end + 90])
    coding, frameshift = start in (200, 400), event.longer_by % 3 != 0
    if coding and strand > 0:  # the codons behind it are read in another frame, or in the same
        behind = (editor.after(event).site[-50:], editor.before(event).site[-50:])
        assert np.array_equal(*behind) != frameshift


def test_events_anywhere_read_alike_on_the_other_strand() -> None:
    draw = np.random.default_rng(2)
    sequence = draw.integers(0, 4, LENGTH).astype(np.uint8)
    sequence[255:265] = 0  # a run of A over the end of an exon
    genes = _genes()
    editor = Editor(reference_of(sequence, genes), 40)
    other = Editor(reference_of(opposite(sequence), mirrored(genes, LENGTH)), 40)
    borders = [0, 119, 120, 150, 258, 260, 262, 340, 478, 480, 520, LENGTH - 3]
    for start in [*borders, *draw.integers(0, LENGTH - 4, 40).tolist()]:
        for lost, gained in ((0, 1), (1, 0), (3, 0), (0, 4), (2, 2), (3, 1)):
            ref = sequence[start : start + lost]
            alt = draw.integers(0, 4, gained).astype(np.uint8)
            if np.array_equal(ref, alt):
                continue
            event = event_of("a", sequence, start, ref, alt)
            place = LENGTH - start - lost
            mirror = event_of("a", opposite(sequence), place, opposite(ref), opposite(alt))
            _equal(editor.after(event), other.after(mirror).opposite())
            _equal(editor.before(event), other.before(mirror).opposite())
