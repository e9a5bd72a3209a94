"""What many targets see through one view, in the order of its keys: each event is embedded once,
and every window is a stretch of it.

Shapes: T targets, W slots of a window, M events that any target sees, R rows of memory (an event
has one for each label state in which it is seen), E width of keys and values, C carried numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from core.fused.rounds import Sight
from core.fused.windows import Events, new_windows
from core.model.slots import FEATURES, Slots, write_features
from core.model.views import KeyedView
from domains.finance.batches import Gatherer
from domains.finance.stream import DAY, UNKNOWN_LABEL

Embed = Callable[[np.ndarray, np.ndarray], Tensor]
"""Stream places and label states [R] -> keys, values and carried numbers [R, E + E + C]."""

NEVER, FOREVER = -(1 << 62), 1 << 62
EVENTS = 1 << 10
"""Rows of memory that are embedded at a time; always as many, because how a matrix product rounds a
row may depend on how many there are, and they depend on labels that a target must not see."""


class ViewMemory:
    """Args:
    targets: [T] stream places.
    view: place among the gatherer's views, `look` what it shows.
    size: E.
    itself: whether a target's own slot tells of its fields, or only of its label state and age.

    Attributes:
        order: [T] places in `targets` by key; neighbours see nearly the same.
        width: W.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        view: int,
        look: KeyedView,
        targets: np.ndarray,
        size: int,
        embed: Embed,
        itself: bool,
    ) -> None:
        stream, seen = gatherer.stream, gatherer.orders[view].seen(targets, look.window)
        label = stream.label[seen.places]
        if not look.labels:
            label = np.full_like(label, UNKNOWN_LABEL)
        self.size, self.width, self.order = size, int(seen.have.max(initial=1)), seen.order
        self.at, self.have = seen.at, seen.have
        found, repeat = _remembered(gatherer, targets, seen.places, label, embed)
        # The last row tells nothing.
        self.rows, self.itself = torch.cat([found, torch.zeros_like(found[:1])]), itself
        time, day = stream.time[seen.places], stream.day[seen.places]
        due = np.where(label == UNKNOWN_LABEL, FOREVER, time + gatherer.delay)
        self.events = Events(time, due, day, label, np.cumsum(repeat) - repeat, repeat == 2)

    def sight(self, chosen: np.ndarray, time: np.ndarray, day: np.ndarray) -> Sight:
        """What these targets see, where rows are on a CPU.

        Args:
            chosen: [T] places in `targets`.
            time: [T] microseconds, `day` [T] their days.
        """
        at, have = self.at[chosen], self.have[chosen]
        windows = new_windows(self.events, at, have, time, day, DAY)
        if not self.itself:
            windows.row[:, -1] = len(self.rows) - 1
        return Sight(self.rows.numpy(), windows)

    def slots(self, chosen: np.ndarray, time: np.ndarray, day: np.ndarray) -> Slots:
        """The same laid out, on any device; without gradient."""
        numbers = (self.at[chosen], self.have[chosen], time[:, None], day[:, None])
        at, have, now, today = (torch.from_numpy(x).to(self.rows.device) for x in numbers)
        at_time, due, at_day, label, row, later = (column[at] for column in self._unfolded)
        known = due <= now
        row = row + known * later
        if not self.itself:
            row[:, -1] = len(self.rows) - 1
        content = self._spaced[row]
        # What stands before a key's first event may be later than the target.
        ages = ((now - at_time) / DAY).to(content.dtype).clamp_(min=0)
        # A label is a byte, too small for the arithmetic of its features' rows.
        states = torch.where(known, label, UNKNOWN_LABEL).long()
        days = today - at_day
        write_features(content, self.size, ages, days, states)
        return Slots(content, self._bias[have], ages, days, states)

    @functools.cached_property
    def _unfolded(self) -> list[Tensor]:
        """Windows [M, W] over each column of the events; before the first nothing is."""
        found = []
        for column in self.events:
            padded = np.concatenate([np.zeros(self.width - 1, column.dtype), column])
            found.append(torch.from_numpy(padded).to(self.rows.device).unfold(0, self.width, 1))
        return found

    @functools.cached_property
    def _spaced(self) -> Tensor:
        """Rows with room for features."""
        room = self.rows.new_zeros(len(self.rows), FEATURES)
        return torch.cat([self.rows[:, : self.size], room, self.rows[:, self.size :]], dim=1)

    @functools.cached_property
    def _bias(self) -> Tensor:
        """[W + 1, W]: a window that holds k events begins at k."""
        bias = self.rows.new_zeros(2 * self.width)
        bias[: self.width] = -torch.inf
        return bias.unfold(0, self.width, 1)


def _remembered(
    gatherer: Gatherer, targets: np.ndarray, events: np.ndarray, label: np.ndarray, embed: Embed
) -> tuple[Tensor, np.ndarray]:
    """Rows of memory [R, E + E + C], and how many [M] an event has: its label unknown, then known,
    each where a target may see it so."""
    stream, delay = gatherer.stream, gatherer.delay
    now, time = stream.time[targets], stream.time[events]
    known = (label != UNKNOWN_LABEL) & (time <= now.max(initial=NEVER) - delay)
    hidden = ~known | (time > now.min(initial=FOREVER) - delay)
    repeat = known.astype(np.int64) + hidden
    places = events.repeat(repeat)
    states = np.full(len(places), UNKNOWN_LABEL, dtype=np.int64)
    last = np.cumsum(repeat) - 1
    states[last[known]] = label[known]
    padding = (0, -len(places) % EVENTS)
    places, states = np.pad(places, padding), np.pad(states, padding)
    starts = range(0, max(1, len(places)), EVENTS)
    found = [embed(places[s : s + EVENTS], states[s : s + EVENTS]) for s in starts]
    return torch.cat(found), repeat
