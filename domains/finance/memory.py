"""What many targets see through one view, in the order of its keys: each event is embedded once,
and every window is a stretch of it.

Shapes: T targets, W slots of a window, M events that any target sees, R rows of memory (an event
has one for each label state in which it is seen), E width of keys and values, A features, C carried
numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from core.model.slots import Slots, write_features
from core.model.views import KeyedView
from domains.finance.batches import Gatherer
from domains.finance.stream import DAY, UNKNOWN_LABEL

Embed = Callable[[np.ndarray, np.ndarray], Tensor]
"""Stream places and label states [R] -> what slots hold [R, E + A + E + C], features left empty."""

NEVER, FOREVER = -(1 << 62), 1 << 62
EVENTS = 1 << 10
"""Rows of memory that are embedded at a time; always as many, because how a matrix product rounds a
row may depend on how many there are, and they depend on labels that a target must not see."""


class ViewMemory:
    """Args:
    targets: [T] stream places.
    view: place among the gatherer's views, `look` what it shows.
    size: E.

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
    ) -> None:
        seen = gatherer.orders[view].seen(targets, look.window)
        label = gatherer.stream.label[seen.places]
        if not look.labels:
            label = np.full_like(label, UNKNOWN_LABEL)
        self.size, self.width, self.order = size, int(seen.have.max(initial=1)), seen.order
        self.rows, repeat = _remembered(gatherer, targets, seen.places, label, embed)
        self.at, self.have = (torch.from_numpy(x).to(self.rows.device) for x in seen[1:3])
        self._lay_out(gatherer, seen.places, label, repeat)

    def _lay_out(
        self, gatherer: Gatherer, events: np.ndarray, label: np.ndarray, repeat: np.ndarray
    ) -> None:
        """Windows [M, W] over what is known of the events; before the first nothing is."""
        stream = gatherer.stream
        due = np.where(label == UNKNOWN_LABEL, np.inf, stream.time[events] + gatherer.delay)
        row = np.cumsum(repeat) - repeat

        def windows(values: np.ndarray, kind: type[np.generic]) -> Tensor:
            padded = np.concatenate([np.zeros(self.width - 1), values]).astype(kind)
            return torch.from_numpy(padded).to(self.rows.device).unfold(0, self.width, 1)

        self.time, self.due = windows(stream.time[events], np.float64), windows(due, np.float64)
        self.day, self.label = windows(stream.day[events], np.int32), windows(label, np.int32)
        self.row, self.twice = windows(row, np.int32), windows(repeat == 2, np.int32)
        # A window that holds k events begins at k.
        bias = torch.zeros(2 * self.width, device=self.rows.device)
        bias[: self.width] = -torch.inf
        self.bias = bias.unfold(0, self.width, 1)

    def see(self, chosen: Tensor, time: Tensor, day: Tensor) -> Slots:
        """What these targets see; without gradient.

        Args:
            chosen: [T] places in `targets`.
            time: [T] float64 microseconds.
            day: [T] int32.
        """
        at, now = self.at[chosen], time[:, None]
        known = self.due[at] <= now
        row = (self.row[at] + known * self.twice[at]).flatten()
        content = self.rows.index_select(0, row).unflatten(0, known.shape)
        # What stands before a key's first event may be later than the target.
        ages = ((now - self.time[at]) / DAY).float().clamp_(min=0)
        states = torch.where(known, self.label[at], UNKNOWN_LABEL)
        days = day[:, None] - self.day[at]
        write_features(content, self.size, ages, days, states)
        return Slots(content, self.bias[self.have[chosen]], ages, days, states)


def _remembered(
    gatherer: Gatherer, targets: np.ndarray, events: np.ndarray, label: np.ndarray, embed: Embed
) -> tuple[Tensor, np.ndarray]:
    """Rows of memory [R, E + A + E + C], and how many [M] an event has: its label unknown, then
    known, each where a target may see it so."""
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
