"""How long ago an event was, as features that a linear map can turn into any smooth function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

KNOTS = (0, 1, 2, 4, 7, 10, 14, 17, 21, 24, 28, 31, 35, 42, 56, 84)
"""Days: fine to five weeks, then coarser; what is older counts as the last."""
AGE_FEATURES = len(KNOTS) + 3
DAILY = (*range(43), 56, 84)
"""Days one by one, for what is told once a head and not once an event."""
HOURS = 24


def hats(x: Tensor, knots: Sequence[float] = KNOTS) -> Tensor:
    """[...] -> [..., knots]: the two knots around x share a weight of one, so that a linear map of
    it is a piecewise linear function of x, constant outside the knots."""
    knot = torch.tensor(knots, dtype=x.dtype, device=x.device)
    x = x.clamp(knot[0], knot[-1])
    left = (torch.bucketize(x, knot, right=True) - 1).clamp(0, len(knots) - 2)
    part = ((x - knot[left]) / (knot[left + 1] - knot[left]))[..., None]
    out = x.new_zeros(*x.shape, len(knots)).scatter(-1, left[..., None], 1 - part)
    return out.scatter(-1, left[..., None] + 1, part)


def steps(x: Tensor, knots: Sequence[float]) -> Tensor:
    """[...] -> [..., knots - 1]: each rises from 0 to 1 between two knots, so that a linear map of
    it is a piecewise linear function of x too, but needs one weight for a threshold."""
    knot = torch.tensor(knots, dtype=x.dtype, device=x.device)
    return ((x[..., None] - knot[:-1]) / knot.diff()).clamp(0, 1)


def age_features(ages: Tensor, days: Tensor) -> Tensor:
    """[...] -> [..., AGE_FEATURES].

    Args:
        ages: days between the two times; the last feature, where a head's decay is read.
        days: int64 midnights between them, because runs begin and end with a calendar day.
    """
    table = hats(torch.arange(KNOTS[-1] + 1, dtype=ages.dtype, device=ages.device))
    fine = [torch.exp(-HOURS * ages), torch.log1p(HOURS * ages) / 4, ages]
    return torch.cat([table[days.clamp(0, KNOTS[-1])], torch.stack(fine, dim=-1)], dim=-1)
