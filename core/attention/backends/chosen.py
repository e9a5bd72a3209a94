"""Parts whose keys the data chose, in pieces that fit in the cache, with their masks.

Shape suffixes: G batch x head, C block rows, R rows of one, S slots, K keys of a block row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.attention.axes import Gather, Slots
from core.attention.backends.pieces import MASK_AREA, Piece, Size, additive
from core.attention.learned import Choice
from core.attention.parts import Part
from core.attention.plan import Plan


def chosen_pieces(
    plan: Plan, bounds: Tensor | None, choices: Sequence[Choice], k_GND: Tensor, size: Size
) -> Iterator[Piece]:
    """A piece holds a few block rows of all heads; `choices` are those of `plan.learned`."""
    groups, _, channels = k_GND.shape
    for part in plan.parts:
        cols = part.cols
        if isinstance(cols, Slots):
            rows = MASK_AREA // (groups * part.rows.width * cols.width)
            step = max(1, min(rows, size.numbers // (groups * channels * cols.width)))
            for at in range(0, part.count, step):
                end = min(at + step, part.count)
                some = replace(part, rows=part.rows.blocks(at, end))
                yield from _chosen(some, cols.blocks(at, end), plan, bounds, choices, k_GND)


def _chosen(
    part: Part,
    cols: Slots,
    plan: Plan,
    bounds: Tensor | None,
    choices: Sequence[Choice],
    k_GND: Tensor,
) -> Iterator[Piece]:
    table_GCS = choices[cols.choice].table[..., cols.first : cols.first + cols.count, :]
    table_GCS = table_GCS.flatten(0, 1)
    used = (table_GCS >= 0).any(0).any(0)
    if not bool(used.any()):
        if not part.starts:
            return
        used[0] = True  # rows that no part starts would hold anything
    keys = _keys(table_GCS[..., used], cols.size, plan.kv)
    part = replace(part, cols=Gather(keys))
    earlier = choices[: cols.choice]
    everyone = slice(len(k_GND))
    if part.rule is None and not earlier and not _cut(part, bounds):
        if part.full:
            yield Piece(everyone, part, None, None)
            return
        if (part.left, part.right) == (None, 0) and bool((keys >= 0).all()):
            # only the own block, the first slot, holds keys after a query: one mask for all
            one = replace(part, rows=part.rows.blocks(0, 1), cols=Gather(keys[:1, :1]))
            yield Piece(everyone, part, *additive(one.mask(), k_GND.dtype))
            return
    mask = part.mask(bounds)
    i, j = part.rows.index().long() + part.origin[0], keys + part.origin[1]
    for choice in earlier:
        mask &= ~choice.holds(i[..., None], j[..., None, :])
    yield Piece(everyone, part, *additive(mask, k_GND.dtype))


def _keys(table_GCS: Tensor, size: int, kv: range) -> Tensor:
    """Local keys int64 [G, C, S * size] of key blocks, -1 where there is none."""
    keys = table_GCS[..., None] * size + torch.arange(size) - kv.start
    absent = (table_GCS < 0)[..., None] | (keys < 0) | (keys >= len(kv))
    return keys.masked_fill(absent, -1).flatten(2)


def _cut(part: Part, bounds: Tensor | None) -> bool:
    """Whether bounds may take some pair away."""
    if bounds is None:
        return False
    bound = part.rows.take(bounds)
    low, high = bound[..., 0].amax(-1), bound[..., 1].amin(-1)  # what all rows of a block see
    assert isinstance(part.cols, Gather)
    keys = part.cols.table
    first = keys.masked_fill(keys < 0, keys.max()).amin(-1)
    heads = len(keys) // len(low) if len(low) > 1 else 1
    low, high = (x.repeat_interleave(heads, 0) for x in (low, high))
    return bool(((low > first) | (high <= keys.amax(-1))).any())
