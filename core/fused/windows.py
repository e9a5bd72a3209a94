"""Windows that are stretches of a memory: what a slot holds is looked up there, and of its label
state and age only what is not zero is kept.

Shapes: T targets, W slots of a window, M events of a memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from core.fused.compiling import compiled
from core.model.ages import KNOTS, fine_features
from core.model.views import UNKNOWN

AT_ONCE = 4
"""Slots whose scores are found together; a window has a multiple of it."""
LAST_DAY = KNOTS[-1]
LEFT = np.clip(np.searchsorted(KNOTS, np.arange(LAST_DAY + 1), "right") - 1, 0, len(KNOTS) - 2)
"""Knot of an age in days."""
PART = ((np.arange(LAST_DAY + 1) - np.take(KNOTS, LEFT)) / np.diff(KNOTS)[LEFT]).astype(np.float32)
"""How far it is to the next one."""


class Events(NamedTuple):
    """[M] of a memory, in the order of keys: when an event was and its label is due, in one unit,
    its day, its label state once due, its row of memory, and how much later the row is that knows
    the label."""

    time: np.ndarray
    due: np.ndarray
    day: np.ndarray
    label: np.ndarray
    row: np.ndarray
    twice: np.ndarray


class Windows(NamedTuple):
    """[T, W] slots, the target itself last: row of memory, label state, the age's knot and how far
    it is to the next one, and features by the hour, then [T] how many of the slots hold events."""

    row: np.ndarray
    state: np.ndarray
    left: np.ndarray
    part: np.ndarray
    recent: np.ndarray
    late: np.ndarray
    age: np.ndarray
    days: np.ndarray
    have: np.ndarray


def new_windows(
    events: Events, at: np.ndarray, have: np.ndarray, now: np.ndarray, today: np.ndarray, unit: int
) -> Windows:
    """The windows of [T] targets.

    Args:
        at: [T] their own places among the events.
        have: [T] how many events they see, themselves included.
        now: [T] their time, `today` their day.
        unit: of time, in a day.
    """
    shape = (len(at), -(-int(have.max(initial=1)) // AT_ONCE) * AT_ONCE)
    whole = (np.empty(shape, dtype=np.int32) for _ in range(4))
    real = (np.empty(shape, dtype=np.float32) for _ in range(4))
    row, state, left, days = whole
    part, recent, late, age = real
    windows = Windows(row, state, left, part, recent, late, age, days, have)
    _lay_out(events, at, now, today, unit, windows)
    ages = torch.from_numpy(age)
    for into, feature in zip((recent, late), fine_features(ages), strict=False):
        torch.from_numpy(into).copy_(feature)
    return windows


@compiled
def _lay_out(events, at, now, today, unit, out):
    """Fill windows, but for the features by the hour."""
    size = out.row.shape[1]
    for i in range(len(at)):
        begin = size - out.have[i]
        for j in range(size):
            out.row[i, j], out.state[i, j], out.age[i, j], out.days[i, j] = 0, UNKNOWN, 0, 0
            if j >= begin:
                m = at[i] + j + 1 - size
                known = events.due[m] <= now[i]
                out.row[i, j] = events.row[m] + (events.twice[m] if known else 0)
                out.state[i, j] = events.label[m] if known else UNKNOWN
                out.age[i, j] = (now[i] - events.time[m]) / unit
                out.days[i, j] = today[i] - events.day[m]
            day = min(max(out.days[i, j], 0), LAST_DAY)
            out.left[i, j], out.part[i, j] = LEFT[day], PART[day]
