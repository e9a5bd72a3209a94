"""What many targets see through one view, in the order of its keys: each event is embedded once,
and every window is a stretch of it.

Shapes: T targets, W slots of a window, M events that any target sees, R rows of memory (an event
has one for each label state in which it is seen), E width of keys and values, C carried numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.model.gathered import Seen
from domains.finance.batches import Gatherer
from domains.finance.stream import DAY, UNKNOWN_LABEL

Embed = Callable[[np.ndarray, np.ndarray], Tensor]
"""Stream places and label states [R] -> keys, values and carried numbers [R, 2 E + C]."""

EVENTS = 1 << 15
"""Rows of memory that are embedded at a time."""


class ViewMemory:
    """Args:
    targets: [T] stream places.
    window: events that a target sees, itself included; None is all of its key's.
    size: E.

    Attributes:
        order: [T] places in `targets` by key; neighbours see nearly the same.
        width: W.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        view: int,
        targets: np.ndarray,
        window: int | None,
        size: int,
        embed: Embed,
    ) -> None:
        order = gatherer.orders[view]
        place, first = order.place[targets], order.first[targets]
        longest = int((place - first).max(initial=0)) + 1
        self.size, self.width = size, longest if window is None else min(window, longest)
        low = np.maximum(place - self.width + 1, first)
        seen = _covered(low, place + 1, len(gatherer.stream))
        events = order.order[seen]
        self.order = np.argsort(place)
        self.rows, repeat = _remembered(gatherer, targets, events, embed)
        device = self.rows.device
        self.at = torch.from_numpy((np.cumsum(seen) - 1)[place]).to(device)
        self.have = torch.from_numpy(place - low + 1).to(device)
        self._lay_out(gatherer, events, repeat)

    def _lay_out(self, gatherer: Gatherer, events: np.ndarray, repeat: np.ndarray) -> None:
        """Windows [M, W] over what is known of the events; before the first nothing is."""
        stream, label = gatherer.stream, gatherer.stream.label[events]
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

    def see(self, chosen: Tensor, time: Tensor, day: Tensor) -> Seen:
        """What these targets see.

        Args:
            chosen: [T] places in `targets`.
            time: [T] float64 microseconds.
            day: [T] int32.
        """
        at, now = self.at[chosen], time[:, None]
        known = self.due[at] <= now
        memory = F.embedding(self.row[at] + known * self.twice[at], self.rows)
        return Seen(
            keys=memory[..., : self.size],
            values=memory[..., self.size :],
            # What stands before a key's first event may be later than the target.
            ages=((now - self.time[at]) / DAY).float().clamp(min=0),
            days=day[:, None] - self.day[at],
            states=torch.where(known, self.label[at], UNKNOWN_LABEL),
            bias=self.bias[self.have[chosen]],
        )


def _covered(low: np.ndarray, high: np.ndarray, n: int) -> np.ndarray:
    """[n] bool: in any of the half-open intervals."""
    begin, end = (np.bincount(x, minlength=n + 1) for x in (low, high))
    return np.cumsum(begin - end)[:-1] > 0


def _remembered(
    gatherer: Gatherer, targets: np.ndarray, events: np.ndarray, embed: Embed
) -> tuple[Tensor, np.ndarray]:
    """Rows of memory [R, 2 E + C], and how many [M] an event has: its label unknown, then known,
    each where a target may see it so."""
    stream, delay = gatherer.stream, gatherer.delay
    now, time, label = stream.time[targets], stream.time[events], stream.label[events]
    known = (label != UNKNOWN_LABEL) & (time <= now.max(initial=0) - delay)
    hidden = ~known | (time > now.min(initial=0) - delay)
    repeat = known.astype(np.int64) + hidden
    places = events.repeat(repeat)
    states = np.full(len(places), UNKNOWN_LABEL, dtype=np.int64)
    last = np.cumsum(repeat) - 1
    states[last[known]] = label[known]
    starts = range(0, max(1, len(places)), EVENTS)
    found = [embed(places[s : s + EVENTS], states[s : s + EVENTS]) for s in starts]
    return torch.cat(found), repeat
