"""Patterns chosen by the data: block rows that look for the key blocks that suit their queries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.attention.algebra import Term, within
from core.attention.patterns import BasePattern, Pattern, require_count
from core.attention.selection import select_blocks
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.attention.plan import Plan


class Learned(BasePattern):
    """Each row of `block` queries sees `blocks` key blocks at most, known in a call only."""

    block: int
    blocks: int

    @abstractmethod
    def select(
        self,
        q_BHND: Tensor,
        k_BHMD: Tensor,
        at: range,
        kv: range,
        bounds: Tensor | None = None,
        earlier: Tensor | None = None,
    ) -> Tensor:
        """Key blocks int64 [B, H, block rows of `at`, blocks], no repeats, -1 for none."""

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        raise ConfigError(
            f"{self!r} has no rule on positions alone: queries and keys choose its blocks. "
            "`chosen_blocks` gives those of a call"
        )


@dataclass(frozen=True)
class TopK(Learned):
    """The key blocks whose mean key suits the mean query best, for each head of each sequence.

    A row of `block` queries sees `blocks` key blocks: its own, always, and those of the others
    with the highest product of mean query and mean key. No gradient flows through the choice, only
    through attention to what was chosen. Choosing costs O((n / block)^2 D), attention O(n blocks
    block D): quadratic, with a factor of 1 / block^2. After MoBA (Lu et al. 2025,
    arXiv:2502.13189) and NSA (Yuan et al. 2025, arXiv:2502.11089).

    Both ways, a row chooses by the mean of its own queries among all blocks. `TopK & Causal()` is
    a pattern of its own, not the cut of the other: a row chooses among the blocks before its own
    by the mean query of the block before it, so that no later token has a say in what an earlier
    one sees. Other limits cut what was chosen. What `|` adds doesn't change the choice.

    Bounds: let U be the smallest interval that holds all that the queries of a row may see. Only
    keys in U are pooled, only blocks with keys in U can be chosen, and only queries at positions
    in U are pooled (of none, the row sees its own block). So padding chooses nothing and is not
    chosen. Both ways, packed documents that share a block row share its choice: start them at
    multiples of `block` to keep them apart. Causal ones are apart wherever they start.
    """

    kind = "topk"
    blocks: int
    block: int = 64
    is_causal: bool = False

    def __post_init__(self) -> None:
        require_count("TopK", "blocks", self.blocks, 1)
        require_count("TopK", "block", self.block, 1)

    def terms(self) -> tuple[Term, ...]:
        return (Term(self, None, 0 if self.is_causal else None),)

    def between(self, left: int | None, right: int | None) -> Pattern | None:
        return self if (left, right) == (None, 0 if self.is_causal else None) else None

    def causal(self) -> TopK:
        return replace(self, is_causal=True)

    def select(
        self,
        q_BHND: Tensor,
        k_BHMD: Tensor,
        at: range,
        kv: range,
        bounds: Tensor | None = None,
        earlier: Tensor | None = None,
    ) -> Tensor:
        return select_blocks(
            q_BHND,
            k_BHMD,
            at,
            kv,
            blocks=self.blocks,
            block=self.block,
            causal=self.is_causal,
            bounds=bounds,
            earlier=earlier,
        )

    def certain(self, i: Tensor, j: Tensor) -> Tensor:
        return i // self.block == j // self.block

    def possible(self, i: Tensor, j: Tensor) -> Tensor:
        before = j // self.block <= i // self.block
        return before if self.is_causal else torch.ones_like(before)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a learned term chose in a call: table int64 [B, H, R, slots] from block row `first`."""

    term: Term
    first: int
    table: Tensor

    @property
    def base(self) -> Learned:
        assert isinstance(self.term.base, Learned)
        return self.term.base

    def holds(self, i: Tensor, j: Tensor) -> Tensor:
        """The exact rule for every head: bool [B * H, ...] of positions i [...] and j
        [B * H or 1, ...], one dimension more."""
        seen = self.table.flatten(0, 1)[:, i // self.base.block - self.first]
        block = j // self.base.block
        inside = torch.zeros((), dtype=torch.bool, device=i.device)
        for slot in seen.unbind(-1):
            inside = inside | (slot == block)
        return inside & within(i, j, self.term.left, self.term.right)


def choose(
    plan: Plan,
    q_BHND: Tensor,
    k_BHMD: Tensor,
    bounds: Tensor | None = None,
    earlier: Tensor | None = None,
) -> tuple[Choice, ...]:
    """The choices of `plan.learned`, in its order. See `select_blocks`."""
    return tuple(
        Choice(
            term,
            plan.q.start // base.block,
            base.select(q_BHND, k_BHMD, plan.q, plan.kv, bounds, earlier),
        )
        for term, base in _bases(plan.learned)
    )


def chosen_blocks(
    plan: Plan,
    q_BHND: Tensor,
    k_BHMD: Tensor,
    bounds: Tensor | None = None,
    earlier: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """For each learned pattern of a plan the key blocks int64 [B, H, R, slots] that `attend` takes
    for these queries and keys; -1 for none. Row r is block row plan.q.start // block + r, a key
    block counts like a block row (number c starts at position c * block)."""
    return tuple(choice.table for choice in choose(plan, q_BHND, k_BHMD, bounds, earlier))


def _bases(terms: Sequence[Term]) -> list[tuple[Term, Learned]]:
    return [(term, term.base) for term in terms if isinstance(term.base, Learned)]
