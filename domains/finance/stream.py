"""The time-ordered stream of events as arrays, and who sees whom in it.

Entity identifiers are hashed on the way in, so that a stream, and any state cut from it, holds
none in the clear. Who has the key of the hash can still find them by trying all that there may be.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import polars as pl

from core.errors import DataContractError

UNKNOWN_LABEL = 2
CONTEXT_ROW = -1
DAY = 86_400_000_000
"""Microseconds: the tick of every time in this package."""


@dataclass(frozen=True)
class Stream:
    """n events in time order; ties keep the order of their rows.

    Args:
        row: [n] input row, CONTEXT_ROW for events that are only looked at.
        time: [n] microseconds since 1970 UTC.
        day: [n] int32 days since 1970 in the schema's time zone.
        keys: [n, V] hashed key of every view.
        ids: [n, K] int32 token ids.
        floats: [n, P] float32 continuous inputs.
        gaps: [n, V] float32 days since the last event of the key, NaN for the first.
        label: [n] int8, 0 legitimate, 1 fraud, UNKNOWN_LABEL.
    """

    row: np.ndarray
    time: np.ndarray
    day: np.ndarray
    keys: np.ndarray
    ids: np.ndarray
    floats: np.ndarray
    gaps: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray | slice) -> Stream:
        return Stream(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def after(self, past: Stream | None) -> Stream:
        """`past` followed by this stream, whose gaps are filled in.

        Raises:
            DataContractError: this stream begins before `past` ends.
        """
        joined = self if past is None else _concatenate(past, self)
        start = len(joined) - len(self)
        if 0 < start < len(joined) and joined.time[start] < joined.time[start - 1]:
            raise DataContractError(
                "history: found events later than the first row to score, expected history to end "
                "before it; cut the history file at the start of the input"
            )
        for view in range(self.keys.shape[1]):
            previous = KeyOrder.of(joined.keys[:, view]).previous(np.arange(start, len(joined)))
            gap = (self.time - joined.time[previous]) / DAY
            joined.gaps[start:, view] = np.where(previous < 0, np.nan, gap)
        return joined

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Stream:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return Stream(**{f.name: stored[f.name] for f in fields(Stream)})


def _concatenate(a: Stream, b: Stream) -> Stream:
    return Stream(
        **{f.name: np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(a)}
    )


@dataclass(frozen=True)
class KeyOrder:
    """A stream sorted by (key, place in the stream), for one view.

    Args:
        order: [n] stream places in key order.
        place: [n] the inverse.
        first: [n] for each stream place, where its key begins in `order`.
    """

    order: np.ndarray
    place: np.ndarray
    first: np.ndarray

    @staticmethod
    def of(keys: np.ndarray) -> KeyOrder:
        """[n] keys of a stream's events."""
        order = np.argsort(keys, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(keys))
        ordered = keys[order]
        starts = np.ones(len(keys), dtype=bool)
        starts[1:] = ordered[1:] != ordered[:-1]
        begin = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
        first = np.empty_like(begin)
        first[order] = begin
        return KeyOrder(order, place, first)

    def windows(self, events: np.ndarray, window: int | None) -> np.ndarray:
        """[T] stream places -> [T, W] places of the last `window` events of the same key, the
        event itself last, -1 where there are fewer. W is the longest history when None."""
        if window is None:
            window = int((self.place[events] - self.first[events]).max(initial=0)) + 1
        slot = self.place[events][:, None] - np.arange(window - 1, -1, -1)
        seen = self.order[np.maximum(slot, 0)]
        return np.where(slot >= self.first[events][:, None], seen, -1)

    def seen(self, events: np.ndarray, window: int | None) -> Windows:
        """The windows of these [T] stream places together."""
        place = self.place[events].astype(np.int64)
        first = self.first[events].astype(np.int64)
        low = first if window is None else np.maximum(place - window + 1, first)
        order = np.argsort(place, kind="stable")
        last = place[order]
        # Windows of neighbours overlap: each adds what lies after the one before.
        begin = np.maximum(low[order], np.append(-1, last[:-1]) + 1)
        added = last - begin + 1
        ends = np.cumsum(added)
        slots = (begin - ends + added).repeat(added) + np.arange(added.sum())
        at = np.empty_like(ends)
        at[order] = ends - 1
        return Windows(self.order[slots], at, place - low + 1, order)

    def previous(self, events: np.ndarray) -> np.ndarray:
        """[T] stream place of the same key's event before, -1 where there is none."""
        place = self.place[events]
        return np.where(place > self.first[events], self.order[np.maximum(place - 1, 0)], -1)

    def newest(self, window: int | None) -> np.ndarray:
        """[n] bool: among the last `window` events of its key."""
        if window is None:
            return np.ones(len(self.order), dtype=bool)
        begins = self.first[self.order]
        # Where the key of each sorted place ends: the next place that begins a key.
        ends = np.append(np.flatnonzero(begins == np.arange(len(begins))), len(begins))
        end = np.repeat(ends[1:], np.diff(ends))
        keep = np.empty(len(begins), dtype=bool)
        keep[self.order] = end - np.arange(len(begins)) <= window
        return keep


class Windows(NamedTuple):
    """What T events see of their keys' pasts.

    Args:
        places: [M] stream places that any of them sees, in key order, so that each window is a
            stretch.
        at: [T] where among them an event itself stands, the last of its window.
        have: [T] events of the window.
        order: [T] the events in key order.
    """

    places: np.ndarray
    at: np.ndarray
    have: np.ndarray
    order: np.ndarray


def cut(
    stream: Stream, orders: Sequence[KeyOrder], places: np.ndarray, windows: Sequence[int | None]
) -> tuple[Stream, np.ndarray]:
    """The events that these places see in any view, and where the places are among them.

    An event kept for one view may stand in another view's past too; it can't push a seen event
    out of a window, because everything newer there is seen as well.
    """
    kept = np.zeros(len(stream), dtype=bool)
    for order, window in zip(orders, windows, strict=True):
        kept[order.seen(places, window).places] = True
    seen = np.flatnonzero(kept)
    return stream.take(seen), np.searchsorted(seen, places)


def newest(stream: Stream, orders: Sequence[KeyOrder], windows: Sequence[int | None]) -> Stream:
    """What later events can still see: the last `window` events of every key of every view."""
    kept = np.zeros(len(stream), dtype=bool)
    for order, window in zip(orders, windows, strict=True):
        kept |= order.newest(window)
    return stream.take(kept)


def visible_label(label: np.ndarray, time: np.ndarray, now: np.ndarray, delay: int) -> np.ndarray:
    """The label states an asker at `now` may see: known only when `time <= now - delay`."""
    return np.where(time <= now - delay, label, UNKNOWN_LABEL)


def view_keys(
    events: pl.DataFrame, views: Sequence[Sequence[str]], secret: bytes = b""
) -> np.ndarray:
    """[n, V] int64 hashed keys; entity columns are named `entity:NAME`.

    Args:
        secret: at most 64 bytes that key the hash, for keys that are written anywhere.
    """
    columns: dict[str, np.ndarray] = {}
    keys = np.zeros((len(events), len(views)), dtype=np.uint64)
    for v, names in enumerate(views):
        for name in names:
            if name not in columns:
                columns[name] = _hashed(events[f"entity:{name}"], secret)
            # Order matters, so that (a, b) and (b, a) differ (multiplier of SplitMix64).
            keys[:, v] = keys[:, v] * np.uint64(0x9E3779B97F4A7C15) + columns[name]
    return keys.view(np.int64)


def _hashed(values: pl.Series, secret: bytes) -> np.ndarray:
    texts = values.unique()
    digests = [hashlib.blake2b(t.encode(), digest_size=8, key=secret).digest() for t in texts]
    table = pl.DataFrame(
        {"text": texts, "hash": np.frombuffer(b"".join(digests), dtype=np.uint64)},
    )
    frame = pl.DataFrame({"text": values})
    return frame.join(table, on="text", how="left", maintain_order="left")["hash"].to_numpy()
