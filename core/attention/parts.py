"""One part of a plan: blocks of query rows against blocks of keys, and which pairs count.

Shape suffixes: G batch x head, N rows or keys, C blocks, R rows a block, K keys a block, D head
size, B batch. Indices are local: 0 is the first row of the tensor, whatever its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """`count` blocks of `width` neighbours, each `step` after the last; they may overlap."""

    start: int
    step: int
    count: int
    width: int

    @staticmethod
    def single(start: int, width: int) -> Run:
        return Run(start, max(1, width), 1, width)

    def index(self) -> Tensor:
        """int32 [C, width]."""
        starts = self.start + self.step * torch.arange(self.count, dtype=torch.int32)
        return starts[:, None] + torch.arange(self.width, dtype=torch.int32)

    def take(self, x_GND: Tensor) -> Tensor:
        """[G, C, width, D], a view: overlapping blocks share memory."""
        span = self.step * (self.count - 1) + self.width
        inside = x_GND.narrow(1, self.start, span)
        return inside.unfold(1, self.width, self.step).transpose(-1, -2)

    def put(self, into_GND: Tensor, blocks: Tensor) -> None:
        """Writes the blocks, which must not overlap, to their places."""
        self.take(into_GND).copy_(blocks)

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        """The adjoint of `take`; overlapping blocks are folded in slices that do not overlap."""
        for at in range(0, self.width, self.step):
            width = min(self.step, self.width - at)
            piece = Run(self.start + at, self.step, self.count, width)
            piece.take(into_GND).add_(blocks.narrow(2, at, width))

    def blocks(self, first: int, last: int) -> Run:
        return replace(self, start=self.start + first * self.step, count=last - first)

    def within_block(self, first: int, last: int) -> Run:
        return replace(self, start=self.start + first, width=last - first)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Half-open interval that holds each block: two int32 [C]."""
        starts = self.start + self.step * torch.arange(self.count, dtype=torch.int32)
        return starts, starts + self.width


@dataclass(frozen=True, eq=False)
class Pick:
    """Blocks of arbitrary indices, int64 [C, width]; -1 holds a place that counts for nothing."""

    table: Tensor

    @property
    def count(self) -> int:
        return self.table.shape[0]

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def index(self) -> Tensor:
        return self.table.int()

    def take(self, x_GND: Tensor) -> Tensor:
        flat = self.table.clamp_min(0).flatten()
        return x_GND.index_select(1, flat).unflatten(1, self.table.shape)

    def put(self, into_GND: Tensor, blocks: Tensor) -> None:
        into_GND.index_copy_(1, self.table.flatten(), blocks.flatten(1, 2))

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        into_GND.index_add_(1, self.table.clamp_min(0).flatten(), blocks.flatten(1, 2))

    def blocks(self, first: int, last: int) -> Pick:
        return Pick(self.table[first:last])

    def within_block(self, first: int, last: int) -> Pick:
        return Pick(self.table[:, first:last])

    def ends(self) -> tuple[Tensor, Tensor]:
        index = self.table.int()
        first = index.masked_fill(index < 0, torch.iinfo(torch.int32).max).amin(1)
        return first, index.amax(1) + 1


Axis = Run | Pick


@dataclass(frozen=True, eq=False)
class Part:
    """Pairs (i, j) in blocks rows x cols with i - left <= j <= i + right, keep[j] and rule(i, j).

    `left` and `right` are None where unlimited, `keep` and `rule` where all pass. `rule` takes
    absolute positions; `origin` is the position of index 0 of queries and of keys.
    """

    name: Literal["band", "columns", "random", "rows"]
    origin: tuple[int, int]
    rows: Axis
    cols: Axis
    left: int | None = None
    right: int | None = None
    keep: Tensor | None = None
    rule: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def count(self) -> int:
        return max(self.rows.count, self.cols.count)

    def area(self) -> int:
        """Pairs computed, masked ones included."""
        return self.count * self.rows.width * self.cols.width

    def full(self) -> bool:
        """Whether every pair of the blocks counts, so that no mask is needed."""
        limited = self.left is not None or self.right is not None
        ruled = self.keep is not None or self.rule is not None
        gaps = isinstance(self.cols, Pick) and bool((self.cols.table < 0).any())
        return not (limited or ruled or gaps)

    def split(self, area: int, keys: int, masked: bool) -> Iterator[Part]:
        """Pieces of at most `area` pairs and `keys` keys where blocks allow it.

        A single block is cut along its rows only when a mask makes it cost memory.
        """
        size = self.rows.width * self.cols.width
        if self.count == 1 and (size <= area or not masked):
            yield self
        elif self.count == 1:
            step = max(1, area // self.cols.width)
            for at in range(0, self.rows.width, step):
                rows = self.rows.within_block(at, min(at + step, self.rows.width))
                yield replace(self, rows=rows)
        else:
            step = max(1, min(area // size, keys // self.cols.width))
            for at in range(0, self.count, step):
                last = min(at + step, self.count)
                rows, cols = self.rows.blocks(at, last), self.cols.blocks(at, last)
                yield replace(self, rows=rows, cols=cols)

    def cut_by(self, bounds_BN2: Tensor) -> bool:
        """Whether the bounds take away any pair that the window of a row leaves."""
        first, last = self.cols.ends()
        low, high = self._interval(self.rows.index())
        low, high = torch.maximum(low, first[:, None]), torch.minimum(high, last[:, None])
        bound = self.rows.take(bounds_BN2)
        return bool(((bound[..., 0] > low) | (bound[..., 1] < high)).any())

    def mask(self, bounds_BN2: Tensor | None = None) -> Tensor:
        """Which pairs count: bool [B, C, R, K]; B and C are 1 where all blocks share one mask."""
        shared = bounds_BN2 is None and self.keep is None and self.rule is None
        alike = shared and isinstance(self.rows, Run) and isinstance(self.cols, Run)
        part = replace(self, rows=self.rows.blocks(0, 1), cols=self.cols.blocks(0, 1))
        return part._mask(None) if alike else self._mask(bounds_BN2)

    def _mask(self, bounds_BN2: Tensor | None) -> Tensor:
        i, j = self.rows.index(), self.cols.index()
        low, high = self._interval(i)
        if bounds_BN2 is not None:
            bound = self.rows.take(bounds_BN2)
            low, high = torch.maximum(low, bound[..., 0]), torch.minimum(high, bound[..., 1])
        j = j[:, None, :]
        mask = (j >= low[..., None]) & (j < high[..., None])
        if self.keep is not None:
            mask &= self.keep[j.long()]
        if self.rule is not None:
            first_query, first_key = self.origin
            mask &= self.rule(i.long()[..., None] + first_query, j.long() + first_key)
        return mask if mask.ndim == 4 else mask[None]

    def _interval(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """Half-open local key interval of the window of local rows i, int32; it excludes -1."""
        own = i + (self.origin[0] - self.origin[1])
        low = torch.zeros_like(own) if self.left is None else (own - self.left).clamp_min(0)
        top = torch.iinfo(torch.int32).max
        high = torch.full_like(own, top) if self.right is None else own + (self.right + 1)
        return low, high
