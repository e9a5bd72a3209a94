"""What targets see through one view, laid out so that a head's scores are one matrix product and
what it reads is another.

A slot holds keys, features, values, carried numbers, in this order: queries ask for keys and
features, and features, values and carried numbers are read.

Shapes: T targets, W slots of a view's window, E key size, A features of label state and age, C
carried numbers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.model.ages import AGE_FEATURES, FINE, KNOTS, daily_features, fine_features
from core.model.views import UNKNOWN

STATES = 3
FEATURES = STATES + AGE_FEATURES
"""Age in days is the last."""
LOG2E = 1 / math.log(2)


@dataclass(frozen=True)
class Seen:
    """What the targets see through one view.

    Args:
        keys: [T, W, E], from `GatheredEncoder.remember`.
        values: [T, W, E + C], from there too, with the carried numbers after them.
        ages: [T, W] days.
        days: [T, W] integer midnights in between.
        states: [T, W] integer label states as the target may see them.
        bias: [T, W] added to scores: -inf where there is no event. The last slot, the target
            itself, is never empty.
    """

    keys: Tensor
    values: Tensor
    ages: Tensor
    days: Tensor
    states: Tensor
    bias: Tensor

    def laid_out(self, labels: bool) -> Slots:
        """Where the view does not show `labels`, states are not looked at."""
        states = self.states if labels else torch.full_like(self.states, UNKNOWN)
        dated = F.embedding(_row(self.days, states), _dated(self.ages))
        fine = torch.stack(fine_features(self.ages), dim=-1)
        content = torch.cat([self.keys, dated, fine, self.values], dim=-1)
        return Slots(content, self.bias * LOG2E, self.ages, self.days, self.states)


class Slots(NamedTuple):
    """`content` [T, W, E + A + E + C], what is added to binary scores [T, W], and of `Seen` what
    the features were made of."""

    content: Tensor
    bias: Tensor
    ages: Tensor
    days: Tensor
    states: Tensor


def write_features(content: Tensor, size: int, ages: Tensor, days: Tensor, states: Tensor) -> None:
    """Into the content of slots, whose keys are `size` wide; without gradient."""
    flat, fine = content.view(-1, content.shape[-1]), size + FEATURES - FINE
    row = _row(days, states).flatten()
    torch.index_select(_dated(ages), 0, row, out=flat[:, size:fine])
    for place, feature in enumerate(fine_features(ages)):
        content[..., fine + place] = feature


def _row(days: Tensor, states: Tensor) -> Tensor:
    return days.clamp(0, KNOTS[-1]) + states * (KNOTS[-1] + 1)


def _dated(like: Tensor) -> Tensor:
    return _dated_features(like.dtype, like.device)


@functools.cache
def _dated_features(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[STATES * days, A - FINE] features by label state and day."""
    aged = daily_features(torch.float64)
    state = torch.eye(STATES, dtype=aged.dtype).repeat_interleave(len(aged), dim=0)
    return torch.cat([state, aged.repeat(STATES, 1)], dim=1).to(device, dtype)
