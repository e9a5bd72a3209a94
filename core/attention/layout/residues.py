"""Strided attention: inside a residue class modulo the step it is a band.

In index order a stride of 128 touches every block of keys. Seen class by class its pairs are
neighbours, and a class is a view of the rows, so nothing is copied or masked but the diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from core.attention.algebra import Term
from core.attention.axes import Run
from core.attention.layout.bands import Cut, cuts
from core.attention.layout.layout import Layout, Outside
from core.attention.parts import Part
from core.attention.steps import Strided


def strided_parts(layout: Layout, term: Term) -> Iterator[Part]:
    """`term` less the band, which leaves a band on either side, and less other earlier terms."""
    base = term.base
    assert isinstance(base, Strided)
    step = base.step
    others = Outside.of(t for t in layout.before(term) if t.base is not None)
    for first, last, q, kv in _classes(layout.q, layout.kv, step):
        for left, right in _sides(term, layout.band, step):
            for cut in cuts(q, kv, left, right, layout.block):
                for rows, cols in _placed(cut, first, last, q, kv, layout.origin, step):
                    for at, to, holed in layout.holed(cols):
                        yield Part(
                            "strided",
                            layout.origin,
                            rows.blocks(at, to),
                            cols.blocks(at, to),
                            None if cut.left is None else cut.left * step,
                            None if cut.right is None else cut.right * step,
                            keep=layout.keep if holed else None,
                            rule=others,
                            even=True,
                        )


def _classes(q: range, kv: range, step: int) -> list[tuple[int, int, range, range]]:
    """Groups of classes [first, last) with the same members: t such that class + step * t is in
    the range, for queries and for keys."""

    def members(at: range, residue: int) -> range:
        return range(-((residue - at.start) // step), -((residue - at.stop) // step))

    bounds = {0, step, *(end % step for end in (q.start, q.stop, kv.start, kv.stop))}
    return [(a, b, members(q, a), members(kv, a)) for a, b in pairwise(sorted(bounds))]


def _sides(term: Term, band: Term | None, step: int) -> list[tuple[int | None, int | None]]:
    """Limits in the class, counted in steps, of what the band doesn't hold."""
    left = None if term.left is None else term.left // step
    right = None if term.right is None else term.right // step
    if band is None:
        return [(left, right)]
    sides: list[tuple[int | None, int | None]] = []
    if band.left is not None:
        nearest = band.left // step + 1
        if left is None or nearest <= left:
            sides.append((left, -nearest))
    if band.right is not None:
        nearest = band.right // step + 1
        if right is None or nearest <= right:
            sides.append((-nearest, right))
    return sides


def _placed(
    cut: Cut, first: int, last: int, q: range, kv: range, origin: tuple[int, int], step: int
) -> Iterator[tuple[Run, Run]]:
    """The blocks of a cut in every class of a group, as few parts as there can be."""
    rows = _in_class(cut.rows, first, q, origin[0], step)
    cols = _in_class(cut.cols, first, kv, origin[1], step)
    classes, blocks = last - first, cut.rows.count
    if classes <= blocks:
        for shift in range(classes):
            yield _moved(rows, shift), _moved(cols, shift)
    else:
        for block in range(blocks):
            yield (
                _across(rows.blocks(block, block + 1), classes),
                _across(cols.blocks(block, block + 1), classes),
            )


def _in_class(run: Run, residue: int, members: range, origin: int, step: int) -> Run:
    start = residue + step * (members.start + run.start) - origin
    return Run(start, step * run.step, run.count, run.width, pitch=step)


def _moved(run: Run, shift: int) -> Run:
    return Run(run.start + shift, run.step, run.count, run.width, run.pitch)


def _across(run: Run, classes: int) -> Run:
    return Run(run.start, 1, classes, run.width, run.pitch)
