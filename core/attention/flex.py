"""A plan as FlexAttention's BlockMask: which blocks of keys a block of queries looks at.

The mask always carries the exact rule of the pattern as its mask_mod: without one, flex run
eagerly ignores the list of blocks and attends to everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from core.attention.axes import KeyAxis, Run

if TYPE_CHECKING:
    from core.attention.plan import Plan


def to_block_mask(plan: Plan, block: int, device: torch.device | str) -> BlockMask:
    """See `Plan.to_block_mask`."""
    some = _touched(plan, block)
    full = _full(plan, block) & some
    seen, seen_index = _lists(some & ~full, device)
    whole, whole_index = _lists(full, device)
    return BlockMask.from_kv_blocks(
        seen,
        seen_index,
        whole,
        whole_index,
        BLOCK_SIZE=block,
        mask_mod=_rule(plan),
        seq_lengths=(len(plan.q), len(plan.kv)),
    )


def _rule(plan: Plan) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    first_query, first_key, pattern = plan.q.start, plan.kv.start, plan.pattern

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return pattern.allowed(query + first_query, key + first_key)

    return mask_mod


def _touched(plan: Plan, block: int) -> Tensor:
    """bool [query blocks, key blocks]: where a part has a block of its own."""
    shape = (-(-len(plan.q) // block), -(-len(plan.kv) // block))
    some = torch.zeros(shape, dtype=torch.bool)
    for part in plan.parts:
        rows, cols = _blocks(part.rows, block), _blocks(part.cols, block)
        pairs = (rows[:, :, None] * shape[1] + cols[:, None, :]).where(cols[:, None, :] >= 0, -1)
        ids = pairs.unique()
        some.view(-1)[ids[ids >= 0]] = True
    return some


def _blocks(axis: KeyAxis, block: int) -> Tensor:
    """int64 [C, blocks]: what each block of the axis touches, repeats allowed, -1 for nothing."""
    index = axis.index().long()
    if isinstance(axis, Run):  # a stride of at most a block misses none
        stride = max(1, block // axis.pitch)
        index = torch.cat((index[:, ::stride], index[:, -1:]), 1)
    return index.div(block, rounding_mode="floor")


def _full(plan: Plan, block: int) -> Tensor:
    """bool [query blocks, key blocks]: every pair lies in the band; other blocks take the rule."""
    bands = [term for term in plan.pattern.terms() if term.base is None]
    i = torch.arange(0, len(plan.q), block)[:, None] + plan.q.start
    j = torch.arange(0, len(plan.kv), block)[None] + plan.kv.start
    if not bands:
        return torch.zeros(i.shape[0], j.shape[1], dtype=torch.bool)
    left, right = bands[0].left, bands[0].right
    full = torch.ones(i.shape[0], j.shape[1], dtype=torch.bool)
    if left is not None:
        full &= (i + block - 1) - j <= left
    if right is not None:
        full &= (j + block - 1) - i <= right
    return full


def _lists(blocks: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """How many key blocks each query block has, and which: int32 [1, 1, R] and [1, 1, R, C]."""
    order = blocks.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    count = blocks.sum(1)
    return count[None, None].int().to(device), order[None, None].int().to(device)
