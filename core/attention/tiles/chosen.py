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
from core.attention.static import lasting, outside_tracing
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

    Blocks are partial, where a rule tells their pairs apart, unless they lie in one chosen block.
    """
    table = choices[at].table
    frame = _frame(plan, table.device)
    hit_BHRK = _hit(choices[at], plan, frame)
    there = (frame.col_K >= 0).view(-1, BLOCK)
    hit_BHRK &= there.any(1)
    full_RK = None
    if bounds_BN2 is None and frame.taken is None and at == 0 and _covers(choices[at], frame.scope):
        full_RK = _limits(plan, choices[at].term, frame.scope).inside & there.all(1)
    if bounds_BN2 is not None:
        bounds_BN2 = bounds_BN2.to(frame.row_Q.dtype)
        reach = Reach.of(bounds_BN2, frame.row_Q[None]).map(lambda x: x[..., None])
        some, _ = reach.meets(*(end[:, :, None] for end in ends(frame.col_K[None])))
        hit_BHRK = hit_BHRK & some
    rules = [_head_rule(choice, frame.scope) for choice in choices[: at + 1]]
    seen = _lists(hit_BHRK, full_RK)
    seen_by = _lists(hit_BHRK.mT, None if full_RK is None else full_RK.mT)
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
    i0, i1, limited_RK, _ = _limits(plan, choice.term, scope)
    width = limited_RK.shape[1]
    hit = torch.zeros(*table.shape[:2], len(i0), width + 1, dtype=torch.bool, device=table.device)
    for down in range(_most(BLOCK, size, scope.q.start)):
        row = i0 // size + down
        there = (row <= i1 // size) & (i0 < plan.q.stop)
        seen = table[:, :, (row - choice.first).clamp(0, table.shape[2] - 1)]
        first = seen * size - scope.kv.start
        last = first + size - 1
        for over in range(_most(size, BLOCK, scope.kv.start)):
            block = first.div(BLOCK, rounding_mode="floor") + over
            held = there[:, None] & (seen >= 0) & (block >= 0) & (block < width)
            held &= block <= last.div(BLOCK, rounding_mode="floor")
            hit.scatter_(-1, block.where(held, width), True)
    return hit[..., :width] & limited_RK


def _most(outer: int, inner: int, start: int) -> int:
    """How many blocks of `inner` tokens a block of `outer` can meet, where the grid of the one
    begins at `start` of the other."""
    if max(outer, inner) % min(outer, inner) == 0 and start % min(outer, inner) == 0:
        return max(1, outer // inner)
    return (outer + inner - 2) // inner + 1


def _covers(choice: Choice, scope: Scope) -> bool:
    """Whether each block of 128 lies in one block row and in one block that can be chosen."""
    return choice.base.block % BLOCK == scope.q.start % BLOCK == scope.kv.start % BLOCK == 0


class _Limits(NamedTuple):
    """First and last query of the blocks of rows [R], and which blocks [R, K] hold a pair within
    the limits of a term, and which hold no other."""

    first: Tensor
    last: Tensor
    some: Tensor
    inside: Tensor


@lru_cache(maxsize=32)
@lasting()
def _limits(plan: Plan, term: Term, scope: Scope) -> _Limits:
    sides = Sides(scope.q, scope.kv, BLOCK)
    i0, i1 = sides.i0[:, None], sides.i1[:, None]
    some = torch.ones(len(sides.i0), len(sides.j0), dtype=torch.bool)
    inside = some.clone()
    if term.left is not None:
        some &= sides.j1 >= i0 - term.left
        inside &= sides.j0 >= i1 - term.left
    if term.right is not None:
        some &= sides.j0 <= i1 + term.right
        inside &= sides.j1 <= i0 + term.right
    last = sides.i1.clamp_max(plan.q.stop - 1)
    return _Limits(*(x.to(scope.device) for x in (sides.i0, last, some, inside)))


def _lists(hit: Tensor, full: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts and indices of partial blocks, and of full ones."""
    index = torch.arange(hit.shape[-1], dtype=torch.int32, device=hit.device).expand_as(hit)
    if full is not None:
        return *packed(index, hit & ~full), *packed(index, hit & full)
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
