"""Log-sparse attention: a diagonal a distance, over the rows where its key exists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from core.attention.algebra import Term
from core.attention.axes import Run, Shifts
from core.attention.distances import Distances
from core.attention.layout.layout import Layout
from core.attention.parts import Part
from core.attention.steps import LogSparse


def diagonal_parts(layout: Layout, term: Term) -> Iterator[Part]:
    """Stretches of rows with the same diagonals, so that no part needs a mask for its edges."""
    q, kv = layout.q, layout.kv
    apart = q.start - kv.start
    shifts = _owned(layout, term)
    ends = [(max(0, -s - apart), min(len(q), len(kv) - s - apart)) for s in shifts]
    edges = sorted({0, len(q), *(at for end in ends for at in end if 0 <= at <= len(q))})
    for first, last in pairwise(edges):
        seen = tuple(s for s, (a, b) in zip(shifts, ends, strict=True) if a <= first and last <= b)
        if seen:
            rows = Run(first, 1, last - first, 1)
            cols = Shifts(first + apart, last - first, seen)
            keep = layout.keep if layout.holes else None
            yield Part("log", layout.origin, rows, cols, keep=keep)


def _owned(layout: Layout, term: Term) -> list[int]:
    """The differences j - i of `term` that no earlier term has."""
    base = term.base
    assert isinstance(base, LogSparse)
    earlier = layout.before(term)
    farthest = max(layout.q.stop, layout.kv.stop)
    shifts: list[int] = [] if earlier else [0]
    for distance in base.powers(farthest):
        if term.left is None or distance <= term.left:
            shifts.append(-distance)
        if term.right is None or distance <= term.right:
            shifts.append(distance)
    return sorted(s for s in shifts if not any(_holds(t, s) for t in earlier))


def _holds(term: Term, shift: int) -> bool:
    limit = term.left if shift < 0 else term.right
    inside = limit is None or abs(shift) <= limit
    base = term.base
    if base is None or shift == 0:
        return inside
    return inside and isinstance(base, Distances) and base.holds(abs(shift))
