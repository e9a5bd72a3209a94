"""What a softmax over a window blurs: how a number stands among those looked at, and when a run of
positives began and ended.

Its mean mixes the target's own numbers in and says nothing of their spread: every head is told
numbers as standard scores against the others. Ages of the first and the last event of a label state
heads learn from many positives; from a few hundred they don't, and are told those too. Both come as
steps (piecewise linear encoding, Gorishniy et al. 2022,
arXiv:2203.05556), in which a threshold is a single weight.

Shapes: T targets, W slots of a window, H heads, C carried numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.model.ages import DAILY, steps
from core.model.views import LEGITIMATE, POSITIVE

DEVIATIONS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Where steps rise: asinh of a standard score."""
SCORED = len(DEVIATIONS)
"""What `against_others` says of one carried number."""
NARROWEST = 0.01
"""Least spread that a number is measured by; numbers are of order one."""
FEWEST = 0.02
"""Share of other events in what a head looked at, below which they count for less."""
LEAST_SHARE = 1e-6
"""That means are divided by."""
_AGES = 5


def landmark_width(labels: bool) -> int:
    """Width of `landmarks` for a view that shows labels or not."""
    return _AGES * len(DAILY) + 4 if labels else 1


def landmarks(ages: Tensor, days: Tensor, states: Tensor, there: Tensor, labels: bool) -> Tensor:
    """What a view's window says of its labels.

    Args:
        ages: [T, W] days.
        days: [T, W] int64 midnights in between, because runs begin and end with a calendar day.
        states: [T, W] int64 label states.
        there: [T, W] bool: the slot holds an event.
        labels: whether the view shows labels; if not, `states` are not read.

    Returns:
        [T, landmark_width]: steps of the days since the last known label, the last and the first
        positive, the last legitimate event and the beginning of the last run of positives, each
        with whether there is one; whether that run is open; log counts of positive, legitimate and
        all events. The target in the last slot is none of them.
    """
    past = there.clone()
    past[:, -1] = False
    if not labels:
        return _log_count(past, ages)
    positive, legitimate = past & (states == POSITIVE), past & (states == LEGITIMATE)
    known = positive | legitimate
    last = _least(ages, positive)
    run = positive & (ages < _least(ages, legitimate & (ages > last)))
    midnights = days.to(ages.dtype)
    found = [_stepped(_least(midnights, which), which) for which in (known, positive, legitimate)]
    found += [_stepped(-_least(-midnights, which), which) for which in (positive, run)]
    open_run = (last < _least(ages, legitimate)).to(ages.dtype)
    counts = [_log_count(which, ages) for which in (positive, legitimate, past)]
    return torch.cat([*found, open_run, *counts], dim=-1)


def moments(numbers: Tensor, carried: Tensor) -> Tensor:
    """[T, W, 1 + 2 C] of every slot but the target's own, the last: one, how far the target's
    numbers [T, C] lie beyond the slot's [T, W, C], and the squares of that."""
    _, slots, size = carried.shape
    found = carried.new_empty(len(carried), 1 + 2 * size, slots)
    # From the target's numbers on, because squares of large ones would swallow a small spread.
    beyond = numbers[:, :, None] - carried.mT
    found[:, 0], found[:, 1 : 1 + size], found[:, 1 + size :] = 1, beyond, beyond**2
    found[:, :, -1] = 0
    return found.mT


def against_others(sums: Tensor, total: Tensor) -> Tensor:
    """How a target's numbers stand among those of the other events that heads looked at.

    Args:
        sums: [T, H, 1 + 2 C] of `moments` by the weights of each head.
        total: [T, H, 1] weights, the target's own included.

    Returns:
        [T, H, C * SCORED]: differences from the others' mean, then steps of standard scores.
    """
    share = sums[..., :1] / total
    means = sums[..., 1:] / (total * share.clamp_min(LEAST_SHARE))
    difference, square = means.chunk(2, dim=-1)
    spread = ((square - difference**2).clamp_min(0) + NARROWEST**2).sqrt()
    scores = steps(torch.asinh(difference / spread), DEVIATIONS)
    return torch.cat([difference, scores.flatten(-2)], dim=-1) * (share / FEWEST).clamp_max(1)


def _least(values: Tensor, which: Tensor) -> Tensor:
    """[T, 1] over these slots, infinity where there are none."""
    return values.masked_fill(~which, torch.inf).amin(dim=-1, keepdim=True)


def _stepped(value: Tensor, which: Tensor) -> Tensor:
    """[T, 1] days -> [T, knots]: steps and whether there are any, zeros where not."""
    some = which.any(dim=-1, keepdim=True)
    taken = steps(torch.where(some, value, 0.0)[:, 0], DAILY)
    return torch.cat([taken, torch.ones_like(value)], dim=-1) * some


def _log_count(which: Tensor, like: Tensor) -> Tensor:
    return torch.log1p(which.sum(dim=-1, keepdim=True).to(like.dtype)) / 3
