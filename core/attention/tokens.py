"""Patterns of chosen places: global tokens and pseudo-random blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.attention.patterns import BasePattern, require_count
from core.errors import ConfigError


@dataclass(frozen=True)
class Global(BasePattern):
    """Tokens at `positions` see everything and are seen by everything."""

    kind = "global"
    positions: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(sorted(set(self.positions))))
        if not self.positions:
            raise ConfigError("Global: got no positions, expected at least one")
        for position in self.positions:
            require_count("Global", "position", position, 0)

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        positions = torch.tensor(self.positions, device=i.device)
        return torch.isin(i, positions) | torch.isin(j, positions)

    def pieces(self) -> tuple[Global, ...]:
        return tuple(Global((position,)) for position in self.positions)

    def join(self, others: Sequence[Any]) -> Global:
        positions = (position for other in others for position in other.positions)
        return Global((*self.positions, *positions))


@dataclass(frozen=True)
class Random(BasePattern):
    """Each row of `block` queries sees `blocks` pseudo-random key blocks.

    Slot s of block row r is a hash of (seed, r, s), uniform over the key blocks 0 .. 2^b - 1 with
    b the bit length of r. It knows nothing of the sequence length, so a token's keys are the same
    in a chunk as in one pass. A slot that points past the end is absent (a quarter of the slots
    of the last, incomplete power of two, on average), and two slots may agree. Under `& Causal()`
    exactly the pairs with j <= i stay, three quarters of the slots on average. `block` belongs
    to the pattern: the block size of a plan never changes what is seen.
    """

    kind = "random"
    blocks: int
    seed: int
    block: int = 64

    def __post_init__(self) -> None:
        require_count("Random", "blocks", self.blocks, 1)
        require_count("Random", "block", self.block, 1)

    def drawn(self, rows: Tensor) -> Tensor:
        """Key blocks [..., blocks] of the block rows int64 [...]."""
        span = rows.long()
        for shift in (1, 2, 4, 8, 16, 32):
            span = span | (span >> shift)
        slots = torch.arange(self.blocks, device=rows.device)
        seeded = _mix(torch.tensor(self.seed, device=rows.device))
        return _mix(_mix(seeded ^ rows.long())[..., None] + slots) & span[..., None]

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        drawn = self.drawn(i // self.block)
        return (drawn == (j // self.block)[..., None]).any(-1)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014) on int64, which wraps as uint64 does."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
