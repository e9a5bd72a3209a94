"""Blocks that the data choose, as a FlexAttention mask: a table of its own for every head.

The lists are made in each call on the device, without waiting for it: so they have room for every
block, (n / 128)^2 numbers a head and direction. Choosing takes as many steps.

Shape suffixes: B batch, H heads, R blocks of 128 rows, S slots, K blocks of 128 keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from core.attention.algebra import Term
from core.attention.static import outside_tracing
from core.attention.tiles.bounds import Reach, ends
from core.attention.tiles.rules import Rule, Scope, term_rule, union
from core.attention.tiles.terms import Sides
from core.attention.tiles.tiles import BLOCK, block_mask, packed
from core.attention.tiles.views import InOrder, bucket

if TYPE_CHECKING:
    from core.attention.learned import Choice
    from core.attention.plan import Plan

_HeadRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # batch, head, positions i and j


class _Frame(NamedTuple):
    """Index order: what of a plan no choice changes. `taken` are the pairs of its other terms."""

    scope: Scope
    view: InOrder
    row_Q: Tensor
    col_K: Tensor
    taken: Rule | None


def chosen_mask(
    plan: Plan, choices: Sequence[Choice], at: int, bounds_BN2: Tensor | None
) -> tuple[InOrder, BlockMask]:
    """The pairs of choices[at], less those of earlier choices and of terms the data don't choose.

    Every block is partial: its rule tells the rows of a block of 128 apart.
    """
    table = choices[at].table
    frame = _frame(plan, table.device)
    hit_BHRK = _hit(choices[at], plan, frame)
    hit_BHRK &= (frame.col_K >= 0).view(-1, BLOCK).any(1)
    if bounds_BN2 is not None:
        bounds_BN2 = bounds_BN2.to(frame.row_Q.dtype)
        reach = Reach.of(bounds_BN2, frame.row_Q[None]).map(lambda x: x[..., None])
        some, _ = reach.meets(*(end[:, :, None] for end in ends(frame.col_K[None])))
        hit_BHRK = hit_BHRK & some
    rules = [_head_rule(choice, frame.scope) for choice in choices[: at + 1]]
    seen, seen_by = (_lists(hit) for hit in (hit_BHRK, hit_BHRK.mT))
    lengths, rule = (len(frame.row_Q), len(frame.col_K)), _mask_mod(frame, rules, bounds_BN2)
    return frame.view, block_mask(seen, seen_by, lengths, BLOCK, rule)


@lru_cache(maxsize=32)
def _frame(plan: Plan, device: torch.device) -> _Frame:
    with outside_tracing():
        q, kv = (range(at.start, at.start + bucket(len(at))) for at in (plan.q, plan.kv))
        scope = Scope(q, kv, device)
        row, col = torch.arange(len(q)), torch.arange(len(kv))
        row, col = row.clamp_max(max(0, len(plan.q) - 1)), col.where(col < len(plan.kv), -1)
        others = [term for term in plan.pattern.terms() if term not in plan.learned]
        taken = union(term_rule(term, scope) for term in others) if others else None
        view = InOrder(len(q), len(kv), torch.zeros(0, dtype=torch.int64, device=device), 0)
        return _Frame(scope, view, scope.table(row), scope.table(col), taken)


def _hit(choice: Choice, plan: Plan, frame: _Frame) -> Tensor:
    """bool [B, H, R, K]: the blocks of 128 that hold a pair of a chosen block, padding aside."""
    size, table, scope = choice.base.block, choice.table.long(), frame.scope
    i0, i1, limited_RK = _limits(plan, choice.term, scope)
    width = limited_RK.shape[1]
    hit = torch.zeros(*table.shape[:2], len(i0), width + 1, dtype=torch.bool, device=table.device)
    for down in range((size + BLOCK - 2) // size + 1):  # block rows in a block of 128
        row = i0 // size + down
        there = (row <= i1 // size) & (i0 < plan.q.stop)
        seen = table[:, :, (row - choice.first).clamp(0, table.shape[2] - 1)]
        first = seen * size - scope.kv.start
        last = first + size - 1
        for over in range((size - 2) // BLOCK + 2):
            block = first.div(BLOCK, rounding_mode="floor") + over
            held = there[:, None] & (seen >= 0) & (block >= 0) & (block < width)
            held &= block <= last.div(BLOCK, rounding_mode="floor")
            hit.scatter_(-1, block.where(held, width), True)
    return hit[..., :width] & limited_RK


@lru_cache(maxsize=32)
def _limits(plan: Plan, term: Term, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
    """First and last query of the blocks of rows, and which blocks [R, K] hold a pair within the
    term's limits."""
    sides = Sides(scope.q, scope.kv, BLOCK)
    kept = torch.ones(len(sides.i0), len(sides.j0), dtype=torch.bool)
    if term.left is not None:
        kept &= sides.j1[None] >= sides.i0[:, None] - term.left
    if term.right is not None:
        kept &= sides.j0[None] <= sides.i1[:, None] + term.right
    last = sides.i1.clamp_max(plan.q.stop - 1)
    return sides.i0.to(scope.device), last.to(scope.device), kept.to(scope.device)


def _lists(hit: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts and indices of partial blocks, and of full ones, of which there are none."""
    index = torch.arange(hit.shape[-1], dtype=torch.int32, device=hit.device).expand_as(hit)
    count, index = packed(index, hit)
    return count, index, torch.zeros_like(count), torch.zeros_like(index[..., :1])


def _head_rule(choice: Choice, scope: Scope) -> _HeadRule:
    size, first = scope.number(choice.base.block), scope.number(choice.first)
    left, right = scope.number(choice.term.left), scope.number(choice.term.right)
    rows = (scope.q.stop - 1) // choice.base.block - choice.first + 1
    table = F.pad(choice.table, (0, 0, 0, rows - choice.table.shape[2]), value=-1)
    slots = tuple(scope.table(slot).contiguous() for slot in table.unbind(-1))

    def rule(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        at, block, apart = i // size - first, j // size, j - i
        found = slots[0][batch, head, at] == block
        for slot in slots[1:]:
            found = found | (slot[batch, head, at] == block)
        return found & (apart >= -left) & (apart <= right)

    return rule


def _mask_mod(
    frame: _Frame, rules: Sequence[_HeadRule], bounds_BN2: Tensor | None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    rows, cols, taken, earlier, own = frame.row_Q, frame.col_K, frame.taken, rules[:-1], rules[-1]
    first_row, first_col = map(frame.scope.number, (frame.scope.q.start, frame.scope.kv.start))

    def inner(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row, col = rows[query], cols[key]
        there = col >= 0
        col = col.clamp_min(0)
        i, j = row + first_row, col + first_col
        found = there & own(batch, head, i, j)
        for rule in earlier:
            found = found & ~rule(batch, head, i, j)
        return found if taken is None else found & ~taken(i, j, row, col)

    if bounds_BN2 is None:
        return inner
    batch_size = frame.scope.number(len(bounds_BN2))
    room = (0, len(rows) - bounds_BN2.shape[1])
    lows, highs = (F.pad(side, room) for side in bounds_BN2.unbind(-1))

    def bounded(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row, col, sequence = rows[query], cols[key], batch % batch_size
        seen = (col >= lows[sequence, row]) & (col < highs[sequence, row])
        return seen & inner(batch, head, query, key)

    return bounded
