"""The buffer of a stream: rows join at the end and leave at the front, without moving the rest.

Shape suffixes: S kinds (keys and values, or queries), B batch, H heads, N rows, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.static import lasting

_ROOMY = 4  # a buffer this many times what it holds is given back


class Rows:
    """Neighbouring rows of one or more kinds, in one buffer with room behind them.

    When the room is used up the rows move to the front, or to a buffer of twice their size, so
    that a row costs O(1) amortised.
    """

    def __init__(self, buffer_SBHND: Tensor, first: int = 0, count: int = 0) -> None:
        self.buffer, self.first, self.count = buffer_SBHND, first, count

    @staticmethod
    def like(x_BHND: Tensor, kinds: int = 2) -> Rows:
        """Without rows, in the sizes, dtype and device of these."""
        batch, heads, _, size = x_BHND.shape
        return Rows(_room(x_BHND, kinds, batch, heads, 0, size))

    @property
    def capacity(self) -> int:
        return self.buffer.shape[3]

    def held(self, more: int = 0) -> Tensor:
        """[S, B, H, count + more, D], a view."""
        return self.buffer.narrow(3, self.first, self.count + more)

    def offer(self, *new_BHND: Tensor) -> Tensor:
        """What is held with these rows behind it, a view; `accept` makes them stay."""
        n = new_BHND[0].shape[2]
        self._make_room(self.count + n)
        held = self.held(n)
        for place, x_BHND in zip(held.narrow(3, self.count, n), new_BHND, strict=True):
            place.copy_(x_BHND)
        return held

    def accept(self, n: int) -> None:
        self.count += n

    def drop(self, n: int) -> None:
        """Forgets the first n rows."""
        self.first, self.count = self.first + n, self.count - n
        if self.capacity > _ROOMY * (self.count + 1):
            self._move(2 * self.count)

    def _make_room(self, needed: int) -> None:
        if self.first + needed <= self.capacity:
            return
        if 2 * needed > self.capacity:
            self._move(2 * needed)
        else:  # less than half is used, so the two places don't overlap
            self.buffer.narrow(3, 0, self.count).copy_(self.held())
            self.first = 0

    def _move(self, capacity: int) -> None:
        lead, size = self.buffer.shape[:3], self.buffer.shape[4]
        buffer = _room(self.buffer, *lead, capacity, size)
        buffer.narrow(3, 0, self.count).copy_(self.held())
        self.buffer, self.first = buffer, 0

    def state_dict(self) -> dict[str, Tensor]:
        """What is held, and where in the buffer: the same place gives the same bits later."""
        place = torch.tensor([self.first, self.capacity])
        return {"rows": self.held().clone(memory_format=torch.contiguous_format), "place": place}

    @staticmethod
    def from_state_dict(saved: dict[str, Tensor]) -> Rows:
        held, (first, capacity) = saved["rows"], saved["place"].tolist()
        lead, count, size = held.shape[:3], held.shape[3], held.shape[4]
        rows = Rows(_room(held, *lead, capacity, size), first, count)
        rows.held().copy_(held)
        return rows


@lasting()
def _room(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape)
