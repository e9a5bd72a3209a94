"""Bands: overlapping key blocks where whole windows fit, rectangles at the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.attention.algebra import Term
from core.attention.axes import Run
from core.attention.layout.layout import Layout
from core.attention.parts import Part

_TALL = 4  # blocks of queries in a rectangle: wide enough for the kernel, few masked pairs


class Cut(NamedTuple):
    """Row blocks against key blocks; a limit is None where it takes nothing away."""

    rows: Run
    cols: Run
    left: int | None
    right: int | None


def band_parts(layout: Layout, term: Term) -> Iterator[Part]:
    for rows, cols, left, right in cuts(layout.q, layout.kv, term.left, term.right, layout.block):
        for first, last, holed in layout.holed(cols):
            yield Part(
                "band",
                layout.origin,
                rows.blocks(first, last),
                cols.blocks(first, last),
                left,
                right,
                keep=layout.keep if holed else None,
            )


def cuts(q: range, kv: range, left: int | None, right: int | None, block: int) -> Iterator[Cut]:
    """The pairs i - left <= j <= i + right of q x kv, indices counted from the ranges' starts.

    A negative limit keeps a distance from the query: right -1 is strictly before it.
    """
    if not len(q) or not len(kv):
        return
    start = count = 0
    if left is not None and right is not None:
        start = max(q.start, kv.start + left)
        count = (min(q.stop, kv.stop - right) - start) // block
    if left is None or right is None or count < 2:
        yield from _rectangles(q, kv, left, right, block, q)
        return
    yield from _rectangles(q, kv, left, right, block, range(q.start, start))
    rows = Run(start - q.start, block, count, block)
    cols = Run(start - left - kv.start, block, count, left + block + right)
    yield Cut(rows, cols, left, right)
    yield from _rectangles(q, kv, left, right, block, range(start + count * block, q.stop))


def _rectangles(
    q: range, kv: range, left: int | None, right: int | None, block: int, rows: range
) -> Iterator[Cut]:
    unlimited = left is None and right is None
    step = max(1, len(rows)) if unlimited else _TALL * block
    for first in range(rows.start, rows.stop, step):
        last = min(first + step, rows.stop)
        low, high = kv.start, kv.stop
        before, after = left, right
        if left is not None:
            low = max(low, first - left)
            before = None if last - 1 - left <= low else left
        if right is not None:
            high = min(high, last + right)
            after = None if first + right >= high - 1 else right
        if low < high:
            at, width = Run.single(first - q.start, last - first), high - low
            yield Cut(at, Run.single(low - kv.start, width), before, after)
