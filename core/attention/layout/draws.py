"""Drawn blocks: for each row of query blocks a gathered list of keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.axes import KeyBlocks, Pick, Run
from core.attention.blocks import Blockwise
from core.attention.layout.layout import SCATTERED, Layout, Outside
from core.attention.parts import Part, Rule
from core.attention.static import unknown


def block_parts(layout: Layout, term: Term) -> Iterator[Part]:
    """One term of blocks, less the global columns and the terms before it.

    Slots of which every pair counts are one part; those that need a look at each pair are
    another, over the block rows that have any.
    """
    base = term.base
    assert isinstance(base, Blockwise)
    number = torch.arange(layout.q.start // base.block, (layout.q.stop - 1) // base.block + 1)
    drawn = base.checked(number)
    absent, cut = _kinds(layout, term, base, number[:, None], drawn)
    rule = _rule(base, Outside.of(layout.before(term)))
    for rows, at in block_rows(layout.q, base.block):
        some = slice(at, at + rows.count)
        without = absent[some] | cut[some]
        for first, last in stretches((~without).sum(1)):
            whole = _slots(layout, base, drawn[some][first:last], without[first:last])
            if whole is not None:
                yield Part("blocks", layout.origin, rows.blocks(first, last), whole)
        with_cut = (cut[some] & ~absent[some]).any(1).nonzero().flatten()
        parts = _slots(layout, base, drawn[some], absent[some] | ~cut[some], with_cut)
        if parts is not None:
            index = rows.index().long()[with_cut]
            picked = rows if len(with_cut) == rows.count else Pick(index)
            limits = (term.left, term.right, layout.keep if layout.holes else None)
            yield Part("blocks", layout.origin, picked, parts, *limits, rule=rule)


def stretches(counts: Tensor) -> list[tuple[int, int]]:
    """Stretches [first, last) of rows with as many slots, so that none is masked; one stretch of
    all rows where they change too often, or are not known."""
    if unknown(counts):
        return [(0, len(counts))]
    changes = ((counts[1:] != counts[:-1]).nonzero().flatten() + 1).tolist()
    inner = changes if len(changes) <= SCATTERED else []
    return list(pairwise([0, *inner, len(counts)]))


def block_rows(q: range, size: int) -> Iterator[tuple[Run, int]]:
    """The queries by block row, rows cut by an end of `q` apart, and the number of the first
    one, counted from the row of the first query."""
    first, last = -(-q.start // size), q.stop // size
    if first > last:  # the queries lie inside one block row
        stretches = [(q.start, len(q), 1)]
    else:
        stretches = [
            (q.start, first * size - q.start, 1),
            (first * size, size, last - first),
            (last * size, q.stop - last * size, 1),
        ]
    for start, width, count in stretches:
        if width and count:
            yield Run(start - q.start, width, count, width), start // size - q.start // size


def _kinds(
    layout: Layout, term: Term, base: Blockwise, row: Tensor, drawn: Tensor
) -> tuple[Tensor, Tensor]:
    """Which slots hold no pair of the term's own, and in which some pairs may not count."""
    size, kv = base.block, layout.kv
    begin, end = drawn * size, (drawn + 1) * size
    nearest = begin - (row + 1) * size + 1  # the differences j - i run from here
    farthest = end - row * size - 1
    absent = (drawn < 0) | (drawn[:, :, None] == drawn[:, None, :]).tril(-1).any(-1)
    absent |= (end <= kv.start) | (begin >= kv.stop)
    cut = torch.full_like(absent, base.rule(row[0], row[0]) is not None)
    if term.left is not None:
        absent |= farthest < -term.left
        cut |= nearest < -term.left
    if term.right is not None:
        absent |= nearest > term.right
        cut |= farthest > term.right
    for earlier in layout.before(term):
        if earlier.base is not None:
            cut |= True
            continue
        low = -torch.inf if earlier.left is None else -earlier.left
        high = torch.inf if earlier.right is None else earlier.right
        cut |= (nearest <= high) & (farthest >= low)
        absent |= (nearest >= low) & (farthest <= high)
    for hole in layout.holes:
        cut |= drawn == (hole + kv.start) // size
    return absent, cut


def _slots(
    layout: Layout, base: Blockwise, drawn: Tensor, without: Tensor, rows: Tensor | None = None
) -> KeyBlocks | None:
    """The slots that are left in these rows, first in their row; None where there are none."""
    if rows is not None:
        drawn, without = drawn[rows], without[rows]
    used = int((~without).sum(1).max()) if len(drawn) else 0
    if not used:
        return None
    first = (drawn * base.block - layout.kv.start).masked_fill(without, KeyBlocks.ABSENT)
    order = without.to(torch.uint8).argsort(dim=1, stable=True)[:, :used]
    return KeyBlocks(first.gather(1, order), base.block, len(layout.kv))


def _rule(base: Blockwise, outside: Outside | None) -> Rule | None:
    probe = torch.zeros(1, dtype=torch.int64)
    return outside if base.rule(probe, probe) is None else _Within(base, outside)


@dataclass(frozen=True)
class _Within:
    """Pairs that the base's own rule lets count and no earlier term has."""

    base: Blockwise
    outside: Outside | None

    def __call__(self, i: Tensor, j: Tensor) -> Tensor:
        inside = self.base.rule(i, j)
        assert inside is not None
        return inside if self.outside is None else inside & self.outside(i, j)
