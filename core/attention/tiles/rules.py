"""Patterns as rules that a compiled kernel evaluates pair by pair.

Every number that may differ between two patterns of a kind, or between two lengths, is a tensor
the rule captures, so that the kernel compiled for one serves the other. Rules are made of
elementwise operations and look-ups alone: what the kernel generator takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.blocks import Blockwise
from core.attention.static import lasting
from core.attention.steps import Fixed, LogSparse, Strided
from core.attention.tokens import Global
from core.errors import ConfigError

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # positions i, j and their local rows
_NARROW = 1 << 30  # positions below it, and their differences, are int32


class Scope(NamedTuple):
    """The positions that a rule is asked about, and where its tensors live."""

    q: range
    kv: range
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.int32 if max(self.q.stop, self.kv.stop) < _NARROW else torch.int64

    def number(self, value: int | None) -> Tensor:
        """An integer as a tensor of its own: a kernel is compiled for which of its tensors are one
        and the same. None is beyond every distance."""
        far = torch.iinfo(self.dtype).max // 2
        return _number(far if value is None else min(value, far), self.dtype, self.device).clone()

    def table(self, values: Tensor) -> Tensor:
        whole = not values.is_floating_point() and values.dtype != torch.bool
        return values.to(self.device, self.dtype if whole else values.dtype)


@lru_cache(maxsize=1024)  # a copy to a GPU waits for it
@lasting()
def _number(value: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=device)


def union(rules: Iterable[Rule]) -> Rule:
    first, *others = rules
    rest = tuple(others)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        found = first(i, j, row, col)
        for other in rest:
            found = found | other(i, j, row, col)
        return found

    return rule


def without(some: Rule, others: Sequence[Rule]) -> Rule:
    """The pairs of `some` that are in none of `others`."""
    if not others:
        return some
    taken = union(others)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return some(i, j, row, col) & ~taken(i, j, row, col)

    return rule


def term_rule(term: Term, scope: Scope) -> Rule:
    left, right = scope.number(term.left), scope.number(term.right)

    def within(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        apart = j - i
        return (apart >= -left) & (apart <= right)

    if term.base is None:
        return within
    inner = _base_rule(term, scope)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return within(i, j, row, col) & inner(i, j, row, col)

    return rule


def _base_rule(term: Term, scope: Scope) -> Rule:
    match term.base:
        case Global():
            return _tokens(term.base, scope)
        case Blockwise():
            return _drawn(term.base, scope)
        case Strided():
            return _multiples(term.base, scope)
        case LogSparse():
            return _powers(term.base, scope)
        case Fixed():
            return _summaries(term.base, scope)
        case other:
            raise ConfigError(f"backend 'flex': got {other!r}, expected a pattern with a rule")


def _tokens(base: Global, scope: Scope) -> Rule:
    queries, keys = (scope.table(marks(base, at)) for at in (scope.q, scope.kv))

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return queries[row] | keys[col]

    return rule


def marks(base: Global, positions: range) -> Tensor:
    """bool [positions]: which are global tokens."""
    held = [at - positions.start for at in base.positions if at in positions]
    return torch.zeros(len(positions), dtype=torch.bool).index_fill_(
        0, torch.tensor(held).long(), 1
    )


def _drawn(base: Blockwise, scope: Scope) -> Rule:
    size, first = scope.number(base.block), scope.number(scope.q.start // base.block)
    table = scope.table(drawn_blocks(base, scope.q))
    slots = tuple(slot.contiguous() for slot in table.unbind(1))
    ruled = has_rule(base)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        at, block = i // size - first, j // size
        found = slots[0][at] == block
        for slot in slots[1:]:
            found = found | (slot[at] == block)
        some = base.rule(i, j) if ruled else None
        return found if some is None else found & some

    return rule


def has_rule(base: Blockwise) -> bool:
    """Whether not all pairs of a drawn block count."""
    probe = torch.zeros(1, dtype=torch.int64)
    return base.rule(probe, probe) is not None


def drawn_blocks(base: Blockwise, q: range) -> Tensor:
    """int64 [block rows of q, slots]: the key blocks of each, -1 for none."""
    drawn = base.checked(torch.arange(q.start // base.block, (q.stop - 1) // base.block + 1))
    return drawn if drawn.shape[1] else torch.nn.functional.pad(drawn, (0, 1), value=-1)


def _multiples(base: Strided, scope: Scope) -> Rule:
    step = scope.number(base.step)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return (j - i) % step == 0

    return rule


def _powers(base: LogSparse, scope: Scope) -> Rule:
    if base.base == 2:
        return lambda i, j, row, col: _is_power_of_two_or_zero((j - i).abs())
    farthest = max(scope.q.stop, scope.kv.stop) - min(scope.q.start, scope.kv.start)
    held = torch.zeros(farthest + 1, dtype=torch.bool)
    held[[0, *base.powers(farthest)]] = True
    distances = scope.table(held)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return distances[(j - i).abs()]

    return rule


def _is_power_of_two_or_zero(x: Tensor) -> Tensor:
    return (x & (x - 1)) == 0


def _summaries(base: Fixed, scope: Scope) -> Rule:
    step, first = scope.number(base.step), scope.number(base.step - base.summary)

    def rule(i: Tensor, j: Tensor, row: Tensor, col: Tensor) -> Tensor:
        return (i // step == j // step) | (j % step >= first)

    return rule
