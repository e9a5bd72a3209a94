"""Random blocks: for each row of query blocks a gathered list of keys."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.axes import Pick, Run
from core.attention.layout.layout import Layout, Outside
from core.attention.parts import Part
from core.attention.tokens import Random


def random_parts(layout: Layout, term: Term) -> Iterator[Part]:
    """One random term, less the global columns and the terms before it."""
    base = term.base
    assert isinstance(base, Random)
    size, q = base.block, layout.q
    table = _drawn_keys(layout, base, term.right)
    outside = Outside.of(layout.before(term))
    first, last = -(-q.start // size), q.stop // size
    stretches = [(first * size, size, last - first)]
    if first > last:  # the queries lie inside one block row
        stretches = [(q.start, len(q), 1)]
    else:
        stretches.insert(0, (q.start, first * size - q.start, 1))
        stretches.append((last * size, q.stop - last * size, 1))
    for start, width, count in stretches:
        at = start // size - q.start // size
        keys = table[at : at + count]
        used = int((keys >= 0).sum(1).max()) if width and count > 0 else 0
        if used:
            yield Part(
                "random",
                layout.origin,
                Run(start - q.start, width, count, width),
                Pick(keys[:, :used].contiguous()),
                term.left,
                term.right,
                rule=outside,
            )


def _drawn_keys(layout: Layout, base: Random, right: int | None) -> Tensor:
    """Local keys int64 [block rows, keys] that each block row draws, absent ones (-1) last."""
    q, kv = layout.q, layout.kv
    rows = torch.arange(q.start // base.block, (q.stop - 1) // base.block + 1)
    drawn = base.drawn(rows)
    again = (drawn[:, :, None] == drawn[:, None, :]).tril(-1).any(-1)
    if right is not None:  # a block wholly beyond the limit would only be masked
        again |= drawn * base.block >= (rows[:, None] + 1) * base.block + right
    keys = drawn[:, :, None] * base.block + torch.arange(base.block) - kv.start
    absent = again[:, :, None] | (keys < 0) | (keys >= len(kv))
    absent |= ~layout.keep[keys.clamp(0, len(kv) - 1)]
    keys = keys.masked_fill(absent, -1).flatten(1)
    order = (keys < 0).to(torch.uint8).argsort(dim=1, stable=True)
    return keys.gather(1, order)
