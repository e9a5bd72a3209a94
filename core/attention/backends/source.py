"""What every backend is given: keys, values, their plan and bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.learned import Choice
from core.attention.plan import Plan


@dataclass(frozen=True, eq=False)
class Source:
    """Keys k_BHMD, values v_BHMD, the plan that pairs queries with them, bounds int32 [B, N, 2],
    and what each learned term of the plan chose."""

    k: Tensor
    v: Tensor
    plan: Plan
    bounds: Tensor | None
    choices: tuple[Choice, ...] = ()


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is computed in float32: exact, and as fast on CPU in training."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def for_each_head(x_BHMD: Tensor, heads: int) -> Tensor:
    """Keys or values with one head for each of `heads` query heads; a copy where they share."""
    if x_BHMD.shape[1] == heads:
        return x_BHMD
    return x_BHMD.repeat_interleave(heads // x_BHMD.shape[1], dim=1)
