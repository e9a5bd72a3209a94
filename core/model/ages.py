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
LAST_DAY = 42
DAILY = (*range(LAST_DAY + 1), 56, 84)
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


def hat_sum(x: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    """[T, D] sums over H of weight [T, H] times what values [H, DAILY, D] are at x [T, H]: the
    linear map of `hats(x, DAILY)`, which are not laid out."""
    place = _daily_place(x)
    left = place.detach().floor().clamp(max=len(DAILY) - 2)
    part = place - left
    row = left.long() + len(DAILY) * torch.arange(x.shape[1], device=x.device)
    rows = torch.stack([row, row + 1], dim=-1).flatten(1)
    weights = torch.stack([weight * (1 - part), weight * part], dim=-1).flatten(1)
    table = values.flatten(0, 1)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def steps(x: Tensor, knots: Sequence[float]) -> Tensor:
    """[...] -> [..., knots - 1]: each rises from 0 to 1 between two knots, so that a linear map of
    it is a piecewise linear function of x too, but needs one weight for a threshold."""
    knot = torch.tensor(knots, dtype=x.dtype, device=x.device)
    return ((x[..., None] - knot[:-1]) / knot.diff()).clamp(0, 1)


def _daily_place(x: Tensor) -> Tensor:
    """Where x stands among the knots of `DAILY`, in knots."""
    last, *later = DAILY[LAST_DAY:]
    place = x.clamp(0, last)
    for knot in later:
        place = place + (x - last).clamp(0, knot - last) / (knot - last)
        last = knot
    return place


def daily_features(dtype: torch.dtype) -> Tensor:
    """[oldest + 1, knots] of each number of days."""
    return hats(torch.arange(KNOTS[-1] + 1, dtype=dtype))


def fine_features(ages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """FINE features of ages in days, each [...]; the last are the ages, where a head's decay is
    read."""
    # Of a day and a half 1e-16 is left, and the exponential is slow where it underflows.
    recent = torch.exp(-HOURS * ages.clamp(max=1.5))
    return recent, torch.log1p(HOURS * ages) / 4, ages
