"""Sums over windows of each key's own past, for features made by hand."""

from __future__ import annotations

import numpy as np

from domains.finance.stream import KeyOrder


class Past:
    """One search in (key, time) order answers all windows of a kind.

    Places are those of the events in key order; a window is a half-open pair of them. Values and
    sums are in the order of the stream.

    Attributes:
        first: [n] place where the event's key begins.
        here: [n] the event's own place.
        time: [n] microseconds, in key order.
    """

    def __init__(self, keys: np.ndarray, time: np.ndarray) -> None:
        self.order = KeyOrder.of(keys)
        self.time = time[self.order.order]
        self.first = self.order.first[self.order.order]
        self.here = np.arange(len(keys))
        # Ranks of times, since microseconds times many keys would not fit into 64 bits.
        self._times, rank = np.unique(self.time, return_inverse=True)
        self._key = self.first * (len(self._times) + 1)
        self._moment = self._key + rank

    def known(self, age: int) -> np.ndarray:
        """[n] place after the last event of the key that is at least `age` microseconds old."""
        rank = np.searchsorted(self._times, self.time - age, side="right")
        return np.searchsorted(self._moment, self._key + rank, side="left")

    def sums(self, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """[n] sums of `value` over the places from `low` up to, not including, `high`."""
        total = np.concatenate([[0.0], np.cumsum(self.sorted(value), dtype=np.float64)])
        return self.unsorted(total[np.maximum(high, low)] - total[low])

    def count_and_mean(
        self, value: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """[n] events in each window, and the mean of `value` over them, 0 where there is none."""
        count = self.unsorted(np.maximum(high - low, 0))
        return count, self.sums(value, low, high) / np.maximum(count, 1)

    def sorted(self, value: np.ndarray) -> np.ndarray:
        """Stream order to key order."""
        return value[self.order.order]

    def unsorted(self, value: np.ndarray) -> np.ndarray:
        """Key order to stream order, as float64."""
        return value[self.order.place].astype(np.float64)
