"""Patterns given by blocks: for each row of query blocks the key blocks it sees.

`Blockwise` is the class to write a pattern of one's own on; `Random` and `Blocks` are two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from core.attention.patterns import BasePattern, require_count
from core.attention.static import lasting
from core.errors import ConfigError


class Blockwise(BasePattern):
    """Queries r * block .. r * block + block - 1 see the key blocks that `drawn` names for row r.

    A subclass is a frozen dataclass with a field `block` and a `kind` of its own. Its plan, every
    backend, `|`, `&` and saving follow from `drawn` (and `rule`, where not all pairs of a block
    count). A key block is counted like a block row: number c holds keys c * block onwards.
    """

    block: int

    @abstractmethod
    def drawn(self, rows: Tensor) -> Tensor:
        """Key blocks int64 [..., slots] of the block rows int64 [...], the same for any length.

        A number below 0 is no block; repeats and blocks past the end count for nothing.
        """

    def rule(self, i: Tensor, j: Tensor) -> Tensor | None:
        """Which pairs of a drawn block count: bool of the broadcast shape of positions i and j.

        None, for all of them, is also the fastest: such blocks need no mask.
        """
        return None

    def checked(self, rows: Tensor) -> Tensor:
        """What `drawn` says, checked. Raises ConfigError for another shape or dtype."""
        drawn = self.drawn(rows)
        if drawn.dtype != torch.int64 or drawn.shape[:-1] != rows.shape:
            raise ConfigError(
                f"{type(self).__name__}.drawn: got {drawn.dtype} {tuple(drawn.shape)}, "
                f"expected torch.int64 [*{tuple(rows.shape)}, slots]"
            )
        return drawn

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        seen, block = self.checked((i // self.block).long()), j // self.block
        inside = torch.zeros((), dtype=torch.bool, device=i.device)
        for slot in seen.unbind(-1):
            inside = inside | (slot == block)
        some = self.rule(i, j)
        inside = inside if some is None else inside & some
        return inside.expand(torch.broadcast_shapes(i.shape, j.shape))


@dataclass(frozen=True)
class Random(Blockwise):
    """Each row of `block` queries sees `blocks` pseudo-random key blocks.

    Slot s of block row r is a hash of (seed, head, r, s), uniform over the key blocks 0 .. 2^b - 1
    with b the bit length of r. It knows nothing of the sequence length, so a token's keys are the
    same in a chunk as in one pass. A slot that points past the end is absent (a quarter of the
    slots of the last, incomplete power of two, on average), and two slots may agree. Under
    `& Causal()` exactly the pairs with j <= i stay, three quarters of the slots on average.
    `block` belongs to the pattern: the block size of a plan never changes what is seen. `head`
    tells the heads apart that draw with one seed (see `HeadGroups`).
    """

    kind = "random"
    blocks: int
    seed: int
    block: int = 64
    head: int = 0

    def __post_init__(self) -> None:
        require_count("Random", "blocks", self.blocks, 1)
        require_count("Random", "block", self.block, 1)
        require_count("Random", "head", self.head, 0)
        require_count("Random", "seed", self.seed, -(1 << 63))
        if self.seed >= 1 << 63:
            raise ConfigError(f"Random: got seed {self.seed}, expected one below 2^63")

    def drawn(self, rows: Tensor) -> Tensor:
        span = rows
        for shift in (1, 2, 4, 8, 16, 32):
            span = span | (span >> shift)
        slots = torch.arange(self.blocks, device=rows.device)
        seeded = _mix(torch.tensor(self.seed, device=rows.device))
        if self.head:
            seeded = _mix(seeded ^ _mix(torch.tensor(self.head, device=rows.device)))
        return _mix(_mix(seeded ^ rows)[..., None] + slots) & span[..., None]


@dataclass(frozen=True)
class Blocks(Blockwise):
    """The key blocks of every block row written out: row r of `table` names those that row r sees.

    Rows may differ in length, -1 is no block, and rows after the last see nothing. Kept sorted,
    without repeats, so that equal sets are equal.
    """

    kind = "blocks"
    block: int
    table: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        require_count("Blocks", "block", self.block, 1)
        object.__setattr__(self, "table", tuple(_row(row) for row in self.table))

    def drawn(self, rows: Tensor) -> Tensor:
        return self._padded.to(rows.device)[rows.clamp_max(len(self.table))]

    @cached_property
    @lasting()
    def _padded(self) -> Tensor:
        """The table as int64, and one more row of -1 for all rows after the last."""
        slots = max(map(len, self.table), default=0)
        rows = [[*row, *[-1] * (slots - len(row))] for row in (*self.table, ())]
        return torch.tensor(rows, dtype=torch.int64)


def _row(blocks: Iterable[int]) -> tuple[int, ...]:
    row = sorted(set(blocks) - {-1})
    for block in row:
        require_count("Blocks", "key block", block, 0)
    return tuple(row)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014) on int64, which wraps as uint64 does."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
