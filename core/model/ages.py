"""How long ago an event was, as features that a linear map can turn into any smooth function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = (0, 1, 2, 4, 7, 10, 14, 17, 21, 24, 28, 31, 35, 42, 56, 84)
"""Days: fine to five weeks, then coarser; what is older counts as the last."""
FINE = 3
AGE_FEATURES = len(KNOTS) + FINE
DAILY = (*range(43), 56, 84)
"""Days one by one, for what is told once a head and not once an event."""
HOURS = 24


def hats(x: Tensor, knots: Sequence[float] = KNOTS) -> Tensor:
    """[...] -> [..., knots]: the two knots around x share a weight of one, so that a linear map of
    it is a piecewise linear function of x, constant outside the knots."""
    left, part = _between(x, knots)
    out = x.new_zeros(*x.shape, len(knots)).scatter(-1, left[..., None], 1 - part[..., None])
    return out.scatter(-1, left[..., None] + 1, part[..., None])


def hat_sum(x: Tensor, weight: Tensor, values: Tensor, knots: Sequence[float]) -> Tensor:
    """[T, D] sums over H of weight [T, H] times what values [H, knots, D] are at x [T, H]: the
    linear map of `hats`, which are not laid out."""
    left, part = _between(x, knots)
    left = left + len(knots) * torch.arange(x.shape[1], device=x.device)
    weights = torch.stack([weight * (1 - part), weight * part], dim=-1).flatten(1)
    rows = torch.stack([left, left + 1], dim=-1).flatten(1)
    table = values.flatten(0, 1)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def _between(x: Tensor, knots: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Place of the knot to the left of x, and how far x is on the way to the next."""
    knot = torch.tensor(knots, dtype=x.dtype, device=x.device)
    x = x.clamp(knot[0], knot[-1])
    left = (torch.bucketize(x, knot, right=True) - 1).clamp(0, len(knots) - 2)
    return left, (x - knot[left]) / (knot[left + 1] - knot[left])


def age_features(ages: Tensor, days: Tensor) -> Tensor:
    """[...] -> [..., AGE_FEATURES].

    Args:
        ages: days between the two times; the last feature, where a head's decay is read.
        days: int64 midnights between them, because runs begin and end with a calendar day.
    """
    table = daily_features(ages.dtype).to(ages.device)
    return torch.cat([table[days.clamp(0, KNOTS[-1])], fine_features(ages)], dim=-1)


def daily_features(dtype: torch.dtype) -> Tensor:
    """[oldest + 1, knots] of each number of days."""
    return hats(torch.arange(KNOTS[-1] + 1, dtype=dtype))


def fine_features(ages: Tensor) -> Tensor:
    """[...] -> [..., FINE]."""
    # Beyond three days next to nothing is left, and the exponential is slow where it underflows.
    recent = torch.exp(-HOURS * ages.clamp(max=3))
    return torch.stack([recent, torch.log1p(HOURS * ages) / 4, ages], dim=-1)
