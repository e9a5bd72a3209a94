"""Patterns of regular distance: every step-th token, blocks with summaries, powers of a base."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.distances import Distances
from core.attention.patterns import BasePattern, Pattern, require_count
from core.errors import ConfigError

_FARTHEST = 1 << 40  # beyond any length, and base times it still fits in int64


@dataclass(frozen=True)
class Strided(BasePattern, Distances):
    """Every token whose distance is a multiple of `step`, itself included.

    The second head of strided attention (Child et al. 2019, arXiv:1904.10509); costs
    O(n^2 / step), so a step near the square root of the length makes it O(n sqrt n).
    """

    kind = "strided"
    step: int

    def __post_init__(self) -> None:
        require_count("Strided", "step", self.step, 2)

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        return (j - i) % self.step == 0

    def between(self, left: int | None, right: int | None) -> Pattern | None:
        if left is not None and left == right:
            return Dilated(left // self.step, self.step)
        return super().between(left, right)

    def last(self, limit: int) -> int:
        return limit - limit % self.step

    def holds(self, distance: int) -> bool:
        return distance % self.step == 0

    def includes(self, other: Distances) -> bool:
        return isinstance(other, Strided) and other.step % self.step == 0

    def common(self, other: Distances) -> Distances | None:
        return Strided(lcm(self.step, other.step)) if isinstance(other, Strided) else None


@dataclass(frozen=True)
class Dilated(Pattern):
    """`radius` tokens on either side, `step` apart, and itself: a window with gaps.

    Longformer's dilated window (Beltagy et al. 2020, arXiv:2004.05150). The same as
    Strided(step) & Window(radius * step).
    """

    kind = "dilated"
    radius: int
    step: int

    def __post_init__(self) -> None:
        require_count("Dilated", "radius", self.radius, 1)
        require_count("Dilated", "step", self.step, 2)

    def terms(self) -> tuple[Term, ...]:
        reach = self.radius * self.step
        return (Term(Strided(self.step), reach, reach),)


@dataclass(frozen=True)
class LogSparse(BasePattern, Distances):
    """Tokens at the distances 1, base, base^2, ... on either side, and itself: O(n log n).

    Li et al. 2019 (arXiv:1907.00235), base 2; `& Causal()` looks back only, as they do.
    """

    kind = "logsparse"
    base: int = 2

    def __post_init__(self) -> None:
        require_count("LogSparse", "base", self.base, 2)

    def powers(self, limit: int) -> list[int]:
        """1, base, ... up to `limit`."""
        powers, power = [], 1
        while power <= limit:
            powers.append(power)
            power *= self.base
        return powers

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        distances = torch.tensor([0, *self.powers(_FARTHEST)], device=i.device)
        return torch.isin((j - i).abs().long(), distances)

    def last(self, limit: int) -> int:
        return self.powers(limit)[-1] if limit else 0

    def holds(self, distance: int) -> bool:
        return self.last(distance) == distance

    def includes(self, other: Distances) -> bool:
        return isinstance(other, LogSparse) and self.holds(other.base)

    def common(self, other: Distances) -> Distances | None:
        if self.includes(other):
            return other
        return self if other.includes(self) else None


@dataclass(frozen=True)
class Fixed(BasePattern):
    """The own block of `step` tokens, and the last `summary` tokens of every block.

    Fixed attention of the Sparse Transformer (Child et al. 2019, arXiv:1904.10509), where
    `& Causal()` makes a block's last tokens a summary for all that follows. O(n sqrt n) for a
    step near the square root of the length.
    """

    kind = "fixed"
    step: int
    summary: int = 1

    def __post_init__(self) -> None:
        require_count("Fixed", "step", self.step, 2)
        require_count("Fixed", "summary", self.summary, 1)
        if self.summary >= self.step:
            raise ConfigError(
                f"Fixed: got summary {self.summary} of blocks of {self.step}, expected fewer "
                "tokens than a block has: with all of them it is Dense()"
            )

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        own = i // self.step == j // self.step
        return own | (j % self.step >= self.step - self.summary)
