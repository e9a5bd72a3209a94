"""How an event's effect compares with those of random events of its kind.

Long insertions and deletions change a network's numbers most, whatever they hit. What an effect
means is therefore told by random events that lose and gain as many bases, in sequence that no gene
of the annotation is near.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from domains.genomics.contig import UNKNOWN
from domains.genomics.difference_window import differences
from domains.genomics.edited import Editor
from domains.genomics.event import Event, event_of

if TYPE_CHECKING:
    from domains.genomics.difference_model import DifferenceEnsemble, DifferenceModule

TRIES = 100  # places that are looked at for each random event that is wanted
Kind = tuple[int, int]


class Percentiles:
    """Effects of random events, drawn when a kind of event is first asked for; the same in every
    process.

    Args:
        count: random events a kind.
        longest: bases of an event above which it is not scored.
    """

    def __init__(
        self,
        module: DifferenceModule | DifferenceEnsemble,
        editor: Editor,
        count: int,
        longest: int,
    ) -> None:
        self.module, self.editor, self.count, self.longest = module, editor, count, longest
        self._effects: dict[Kind, np.ndarray | None] = {}

    def of(self, event: Event, effect: float) -> float:
        """Share of the random events whose effect (in model units) is lower, equal ones counted
        half; nan where too little sequence is far from genes, or nothing is annotated."""
        kind = (event.lost, event.gained)
        if kind not in self._effects:
            drawn = random_events(self.editor, kind, self.count, self.longest)
            told = differences(self.module, self.editor, drawn).mean(0) if drawn else None
            self._effects[kind] = told
        effects = self._effects[kind]
        if effects is None:
            return float("nan")
        return float((effects < effect).mean() + (effects == effect).mean() / 2)


def random_events(editor: Editor, kind: Kind, count: int, longest: int) -> list[Event]:
    """`count` events that lose and gain as many bases as `kind` says; none where there is not
    enough room, or no gene by which to tell where room is: a contig that the annotation does not
    mention may have genes anywhere. What comes in is the sequence of other such places."""
    reference = editor.reference
    if not reference.transcripts:
        return []
    draw = np.random.default_rng(kind)
    contigs = reference.genome.contigs
    names = [name for name in contigs if name in reference.annotated]
    lengths = np.array([len(contigs[name]) for name in names])
    lost, gained = kind
    out: list[Event] = []
    for _ in range(TRIES * count):
        if len(out) == count:
            return out
        place, other = (_place(editor, draw, names, lengths, max(kind)) for _ in range(2))
        if place is None or other is None:
            continue
        contig, pos = place
        sequence, new = contigs[contig], contigs[other[0]][other[1] : other[1] + gained]
        ref = sequence[pos : pos + lost]
        if np.array_equal(ref, new):
            continue
        event = event_of(contig, sequence, pos, ref, new)
        if (event.lost, event.gained) == kind and event.length <= longest:
            out.append(event)
    return out if len(out) == count else []


def _place(
    editor: Editor, draw: np.random.Generator, names: list[str], lengths: np.ndarray, bases: int
) -> tuple[str, int] | None:
    """A random place with so many bases, whose window has no gene and no N; None where the draw
    failed."""
    contig = names[int(draw.choice(len(names), p=lengths / lengths.sum()))]
    sequence, flank = editor.reference.sequence(contig), editor.flank
    room = len(sequence) - 2 * flank - bases
    if room < 1:
        return None
    pos = flank + int(draw.integers(room))
    start, end = pos - flank, pos + bases + flank
    if editor.near(contig, start, end, 0) or UNKNOWN in sequence[start:end]:
        return None
    return contig, pos
