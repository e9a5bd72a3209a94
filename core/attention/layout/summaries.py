"""Fixed attention: a block of tokens against itself, and against the other blocks' summaries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.algebra import Term, wider
from core.attention.axes import Pick, Run
from core.attention.layout.layout import Layout, Outside
from core.attention.parts import Part
from core.attention.steps import Fixed


def fixed_parts(layout: Layout, term: Term) -> Iterator[Part]:
    base = term.base
    assert isinstance(base, Fixed)
    yield from _own_blocks(layout, term, base.step)
    yield from _summaries(layout, term, base)


def _own_blocks(layout: Layout, term: Term, step: int) -> Iterator[Part]:
    q, kv = layout.q, layout.kv
    before = layout.before(term)
    even = all(t.base is None or t in layout.distances for t in before)
    for count, rows, cols in _blocks(q, kv, step):
        columns = Run(cols.start - kv.start, step, count, len(cols))
        for a, b, holed in layout.holed(columns):
            yield Part(
                "fixed",
                layout.origin,
                Run(rows.start - q.start, step, count, len(rows)).blocks(a, b),
                columns.blocks(a, b),
                None if term.left is None or term.left >= step else term.left,
                None if term.right is None or term.right >= step else term.right,
                keep=layout.keep if holed else None,
                rule=Outside.of(before),
                even=even,
            )


def _blocks(q: range, kv: range, step: int) -> Iterator[tuple[int, range, range]]:
    """Runs of blocks cut alike by both ranges: how many, queries and keys of the first."""
    first = max(q.start, kv.start) // step
    last = -(-min(q.stop, kv.stop) // step)
    whole_first = -(-max(q.start, kv.start) // step)
    whole_last = min(q.stop, kv.stop) // step
    if whole_first >= whole_last:
        runs = [(at, 1) for at in range(first, last)]
    else:
        edges = [(at, 1) for at in (*range(first, whole_first), *range(whole_last, last))]
        runs = [*edges, (whole_first, whole_last - whole_first)]
    for at, count in runs:
        rows, cols = (range(max(at * step, r.start), min((at + 1) * step, r.stop)) for r in (q, kv))
        if len(rows) and len(cols):
            yield count, rows, cols


def _summaries(layout: Layout, term: Term, base: Fixed) -> Iterator[Part]:
    """For a few blocks of queries at a time: far summaries, all seen, and near ones by rule."""
    q, kv, step = layout.q, layout.kv, base.step
    at = torch.arange(kv.start, kv.stop)
    at = at[(at % step >= step - base.summary) & layout.keep]
    columns, positions = at - kv.start, at.tolist()
    before = layout.before(term)
    rule = _Elsewhere(step, Outside.of(before))
    back, ahead = _reach(before)
    height = step * max(1, layout.block // step)
    for start in range(q.start - q.start % height, q.stop, height):
        first, last = max(start, q.start), min(start + height, q.stop)
        low = 0 if term.left is None else bisect_left(positions, first - term.left)
        high = len(at) if term.right is None else bisect_left(positions, last + term.right)
        # near: where some row sees less, for its own block, earlier terms or the limits
        near_low, near_high = low, high
        if term.left is None and back is not None:
            near_low = max(low, bisect_left(positions, min(start, first - back)))
        if term.right is None and ahead is not None:
            near_high = min(high, bisect_left(positions, max(start + height, last + ahead)))
        rows = Run.single(first - q.start, last - first)
        for far in (columns[low:near_low], columns[near_high:high]):  # both in even stretches
            if len(far):
                yield Part("fixed", layout.origin, rows, Pick(far[None]))
        near = columns[near_low:near_high]
        if height == step:  # the own block has a part of its own
            near = near[at[near_low:near_high] // step != start // step]
        if len(near):
            keys = Pick(near[None])
            yield Part("fixed", layout.origin, rows, keys, term.left, term.right, rule=rule)


def _reach(before: list[Term]) -> tuple[int | None, int | None]:
    """How far back and ahead of a query earlier terms may hold a summary."""
    back: int | None = 0
    ahead: int | None = 0
    for term in before:
        back, ahead = wider(back, term.left), wider(ahead, term.right)
    return back, ahead


@dataclass(frozen=True)
class _Elsewhere:
    """Pairs of different blocks that no earlier term has."""

    step: int
    outside: Outside | None

    def __call__(self, i: Tensor, j: Tensor) -> Tensor:
        elsewhere = i // self.step != j // self.step
        return elsewhere if self.outside is None else elsewhere & self.outside(i, j)
