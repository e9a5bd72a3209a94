"""Drawn blocks: for each row of query blocks a gathered list of keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.axes import Pick, Run
from core.attention.blocks import Blockwise
from core.attention.layout.layout import Layout, Outside
from core.attention.parts import Part, Rule


def block_parts(layout: Layout, term: Term) -> Iterator[Part]:
    """One term of blocks, less the global columns and the terms before it."""
    base = term.base
    assert isinstance(base, Blockwise)
    table = _drawn_keys(layout, base, term)
    rule = _rule(base, Outside.of(layout.before(term)))
    for rows, at in block_rows(layout.q, base.block):
        keys = table[at : at + rows.count]
        used = int((keys >= 0).sum(1).max())
        if used:
            keys = Pick(keys[:, :used].contiguous())
            yield Part("blocks", layout.origin, rows, keys, term.left, term.right, rule=rule)


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


def _drawn_keys(layout: Layout, base: Blockwise, term: Term) -> Tensor:
    """Local keys int64 [block rows, keys] that each block row draws, absent ones (-1) last."""
    q, kv, size = layout.q, layout.kv, base.block
    rows = torch.arange(q.start // size, (q.stop - 1) // size + 1)
    drawn = base.checked(rows)
    absent = (drawn < 0) | (drawn[:, :, None] == drawn[:, None, :]).tril(-1).any(-1)
    # a block wholly beyond a limit would only be masked
    if term.right is not None:
        absent |= drawn * size >= (rows[:, None] + 1) * size + term.right
    if term.left is not None:
        absent |= (drawn + 1) * size <= rows[:, None] * size - term.left
    keys = drawn[:, :, None] * size + torch.arange(size) - kv.start
    missing = absent[:, :, None] | (keys < 0) | (keys >= len(kv))
    missing |= ~layout.keep[keys.clamp(0, len(kv) - 1)]
    keys = keys.masked_fill(missing, -1).flatten(1)
    order = (keys < 0).to(torch.uint8).argsort(dim=1, stable=True)
    return keys.gather(1, order)


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
