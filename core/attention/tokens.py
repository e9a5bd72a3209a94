"""Patterns of chosen tokens: what they see, and who sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        if not isinstance(self.positions, Iterable):
            raise ConfigError(f"Global: got {self.positions!r}, expected positions, such as (0,)")
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
