"""Kept events of a keyed stream, in rows that are used again when an event is dropped.

Shape suffixes: N events, S keys and values (2, or 4 with labelled ones), H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.attention.static import lasting
from core.errors import ConfigError


class Events(NamedTuple):
    """values [N, S, H, D], keys int64 [N], times [N]."""

    values: Tensor
    keys: Tensor
    times: Tensor

    def at(self, rows: Sequence[int]) -> Events:
        index = torch.tensor(rows, dtype=torch.int64, device=self.keys.device)
        return Events(*(x.index_select(0, index) for x in self))


class Pool:
    """Events by their place in the stream."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._row: dict[int, int] = {}
        self._free = list(range(len(events.keys)))

    @staticmethod
    def like(events: Events) -> Pool:
        """Without events, in the sizes, dtypes and device of these."""
        return Pool(Events(*(_room(x, 0) for x in events)))

    @property
    def capacity(self) -> int:
        return len(self._events.keys)

    @property
    def shape(self) -> torch.Size:
        """[S, H, D] of an event."""
        return self._events.values.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self._events.values.dtype

    def check(self, events: Events) -> None:
        """Raises ConfigError where the events are unlike those of the first chunk."""
        n = len(events.values)
        for name, x, own in zip(Events._fields, events, self._events, strict=True):
            fits = len(x) == n and x.shape[1:] == own.shape[1:]
            if not fits or x.dtype != own.dtype or x.device != own.device:
                raise ConfigError(
                    f"keyed stream {name}: got {x.dtype} {tuple(x.shape)} on {x.device} for "
                    f"{n} events, expected {own.dtype} of {tuple(own.shape[1:])} an "
                    f"event on {own.device} as in the first chunk"
                )

    def take(self, places: Sequence[int]) -> Events:
        return self._events.at([self._row[place] for place in places])

    def put(self, places: Sequence[int], events: Events) -> None:
        if len(places) > len(self._free):
            self._grow(len(self._row) + len(places))
        for place in places:
            self._row[place] = self._free.pop()
        at = self._rows(places)
        for own, new in zip(self._events, events, strict=True):
            own.index_copy_(0, at, new)

    def drop(self, places: Sequence[int]) -> None:
        self._free.extend(self._row.pop(place) for place in places)

    def relabel(self, places: Sequence[int], pair_N2HD: Tensor) -> None:
        """Replaces labelled keys and values of those events that are kept."""
        kept = [at for at, place in enumerate(places) if place in self._row]
        rows = self._rows([places[at] for at in kept])
        self._events.values[rows, 2:] = pair_N2HD[kept]

    def _rows(self, places: Sequence[int]) -> Tensor:
        rows = [self._row[place] for place in places]
        return torch.tensor(rows, dtype=torch.int64, device=self._events.keys.device)

    def _grow(self, needed: int) -> None:
        """Room for twice what is needed, so that an event costs O(1) amortised."""
        before, capacity = self.capacity, 2 * needed

        def larger(x: Tensor) -> Tensor:
            room = _room(x, capacity)
            room[:before] = x
            return room

        self._events = Events(*(larger(x) for x in self._events))
        self._free.extend(range(before, capacity))

    def state_dict(self) -> dict[str, Tensor]:
        """The kept events in stream order."""
        places = sorted(self._row)
        at = torch.tensor(places, dtype=torch.int64)
        return {"places": at, **self.take(places)._asdict()}

    @staticmethod
    def from_state_dict(saved: Mapping[str, Tensor]) -> Pool:
        events = Events(*(saved[name] for name in Events._fields))
        pool = Pool.like(events)
        pool.put(saved["places"].tolist(), events)
        return pool


@lasting()
def _room(like: Tensor, rows: int) -> Tensor:
    """Rows as those of `like`, in memory that nothing was written to."""
    return like.new_empty(rows, *like.shape[1:])
