"""Learned blocks: for each block row of queries as many key blocks as it may choose in a call."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from core.attention.algebra import Term
from core.attention.axes import Slots
from core.attention.layout.draws import block_rows
from core.attention.layout.layout import Layout, Outside
from core.attention.learned import Learned
from core.attention.parts import Part


def chosen_parts(layout: Layout, term: Term, choice: int) -> Iterator[Part]:
    """Learned term number `choice`, less all terms that the data don't choose."""
    base = term.base
    assert isinstance(base, Learned)
    outside = Outside.of(layout.static)
    size = base.block
    blocks = (layout.kv.stop - 1) // size - layout.kv.start // size + 1
    slots = min(base.blocks, blocks + 1)  # the own block may not be among the keys
    for rows, at in block_rows(layout.q, size):
        cols = Slots(choice, at, rows.count, slots, size)
        yield Part("chosen", layout.origin, rows, cols, term.left, term.right, rule=outside)


def most_pairs(part: Part, base: Learned, kv: range) -> int:
    """The pairs of a part where no block chosen holds a pair of another term."""
    size = base.block
    i = part.rows.index().long() + part.origin[0]
    low = torch.full_like(i, kv.start) if part.left is None else (i - part.left).clamp_min(kv.start)
    high = torch.full_like(i, kv.stop)
    if part.right is not None:
        high = (i + part.right + 1).clamp_max(kv.stop)
    own = i // size * size
    own = (high.clamp_max(own + size) - low.clamp_min(own)).clamp_min(0)
    others = ((high - low).clamp_min(0) - own).clamp_max((base.blocks - 1) * size)
    return int((own + others).sum())
