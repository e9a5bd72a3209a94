"""Parts whose keys the data chose, in pieces that fit in the cache, with their masks.

Shape suffixes: G batch x head, C block rows, R rows of one, S slots, K keys of a block row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.attention.axes import KeyBlocks, Slots
from core.attention.backends.pieces import EVERYONE, MASK_AREA, Piece, Size, additive
from core.attention.layout.draws import stretches
from core.attention.learned import Choice
from core.attention.parts import Part
from core.attention.plan import Plan
from core.attention.static import known, unknown

Masked = tuple[Tensor, Tensor | None]


def chosen_pieces(
    plan: Plan, bounds: Tensor | None, choices: Sequence[Choice], k_GND: Tensor, size: Size
) -> Iterator[Piece]:
    """A piece holds a few block rows of all heads; `choices` are those of `plan.learned`."""
    channels = k_GND.shape[2]
    for part in plan.parts:
        slots = part.cols
        if isinstance(slots, Slots):
            table_BHRS = choices[slots.choice].table
            groups = known(k_GND.shape[0], table_BHRS.shape[1])
            keys = _keys(table_BHRS, slots, len(plan.kv), plan.kv.start)
            plain = part.rule is None and slots.choice == 0 and not unknown(keys.first)
            if plain and size.tiles(part):
                some = replace(part, cols=keys)
                yield Piece(EVERYONE, some, None, None, bounds=bounds)
                continue
            step = size.numbers // max(1, groups * channels * slots.width)
            if not plain or bounds is not None:
                step = min(step, MASK_AREA // max(1, groups * part.rows.width * slots.width))
            masks: dict[int, Masked] = {}
            # the first rows of a causal part have fewer blocks to choose from
            for first, end in stretches((keys.first != KeyBlocks.ABSENT).sum(-1).amax(0)):
                for at in range(first, end, max(1, step)):
                    last = min(at + max(1, step), end)
                    rows, cols = part.rows.blocks(at, last), keys.blocks(at, last)
                    some = replace(part, rows=rows, cols=cols)
                    yield from _chosen(some, bounds, choices[: slots.choice], k_GND, masks)


def _keys(table_BHRS: Tensor, slots: Slots, keys: int, origin: int) -> KeyBlocks:
    """The key blocks of all block rows of a part, for each head of each sequence."""
    table_GCS = table_BHRS[..., slots.first : slots.first + slots.count, :].flatten(0, 1)
    first = (table_GCS * slots.size - origin).masked_fill_(table_GCS < 0, KeyBlocks.ABSENT)
    return KeyBlocks(first, slots.size, keys)


def _chosen(
    part: Part,
    bounds: Tensor | None,
    earlier: Sequence[Choice],
    k_GND: Tensor,
    masks: dict[int, Masked],
) -> Iterator[Piece]:
    """`masks` keeps the mask of all pieces with as many keys, where they share one."""
    keys = part.cols
    assert isinstance(keys, KeyBlocks)
    if keys.ragged and not unknown(keys.first):
        used = (keys.first != KeyBlocks.ABSENT).any(0).any(0)
        if not bool(used.any()):
            if not part.starts:
                return
            used[0] = True  # rows that no part starts would hold anything
        keys = replace(keys, first=keys.first[..., used])
        part = replace(part, cols=keys)
    if part.rule is None and not earlier and not _cut(part, keys, bounds):
        if part.full:
            yield Piece(EVERYONE, part, None, None)
            return
        if (part.left, part.right) == (None, 0) and not keys.ragged:
            # only the own block, the first slot, holds keys after a query: one mask for all
            if keys.width not in masks:
                own = replace(keys, first=keys.first[:1, :1])
                one = replace(part, rows=part.rows.blocks(0, 1), cols=own)
                masks[keys.width] = additive(one.mask(), k_GND.dtype)
            yield Piece(EVERYONE, part, *masks[keys.width])
            return
    mask = part.mask(bounds)
    i, j = part.rows.index().long() + part.origin[0], keys.index().long() + part.origin[1]
    for choice in earlier:
        mask = mask & ~choice.holds(i[..., None], j[..., None, :])
    yield Piece(EVERYONE, part, *additive(mask, k_GND.dtype))


def _cut(part: Part, keys: KeyBlocks, bounds: Tensor | None) -> bool:
    """Whether bounds may take some pair away."""
    if bounds is None:
        return False
    bound = part.rows.take(bounds)
    low, high = bound[..., 0].amax(-1), bound[..., 1].amin(-1)  # what all rows of a block see
    index = keys.index()
    first = index.masked_fill(index < 0, torch.iinfo(index.dtype).max).amin(-1)
    heads = len(index) // len(low) if len(low) > 1 else 1
    low, high = (x.repeat_interleave(heads, 0) for x in (low, high))
    return bool(((low > first) | (high <= index.amax(-1))).any())
