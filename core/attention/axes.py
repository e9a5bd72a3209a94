"""How a part of a plan addresses rows: views of neighbours, views of a residue class, gathers.

Shape suffixes: G batch x head, N rows or keys, C blocks, K rows of a block, D head size. Indices
are local: 0 is the first row of the tensor, whatever its position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.errors import ConfigError


@dataclass(frozen=True)
class Run:
    """`count` blocks of `width` rows `pitch` apart, each block `step` after the last.

    Blocks may overlap. With pitch 1 a block is a stretch of neighbours; with pitch s it stays
    inside one residue class modulo s, and a step of 1 goes from class to class.
    """

    start: int
    step: int
    count: int
    width: int
    pitch: int = 1

    @staticmethod
    def single(start: int, width: int) -> Run:
        return Run(start, max(1, width), 1, width)

    def index(self) -> Tensor:
        """int32 [C, width]."""
        starts = self.start + self.step * torch.arange(self.count, dtype=torch.int32)
        return starts[:, None] + self.pitch * torch.arange(self.width, dtype=torch.int32)

    def take(self, x_GND: Tensor) -> Tensor:
        """[G, C, width, D], a view: overlapping blocks share memory."""
        groups, rows, size = x_GND.stride()
        return x_GND.as_strided(
            (x_GND.shape[0], self.count, self.width, x_GND.shape[2]),
            (groups, self.step * rows, self.pitch * rows, size),
            x_GND.storage_offset() + self.start * rows,
        )

    def put(self, into_GND: Tensor, blocks: Tensor) -> None:
        """Writes the blocks, which must not overlap, to their places."""
        self.take(into_GND).copy_(blocks)

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        """The adjoint of `take`; overlapping blocks are folded in slices that do not overlap."""
        apart = self.count == 1 or self.step < self.pitch
        hop = self.width if apart else self.step // self.pitch
        for at in range(0, self.width, max(1, hop)):
            width = min(hop, self.width - at)
            piece = self.within_block(at, at + width)
            piece.take(into_GND).add_(blocks.narrow(2, at, width))

    def blocks(self, first: int, last: int) -> Run:
        return replace(self, start=self.start + first * self.step, count=last - first)

    def within_block(self, first: int, last: int) -> Run:
        return replace(self, start=self.start + first * self.pitch, width=last - first)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Half-open interval that holds each block: two int32 [C]."""
        starts = self.start + self.step * torch.arange(self.count, dtype=torch.int32)
        return starts, starts + (self.pitch * (self.width - 1) + 1)


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


@dataclass(frozen=True)
class Shifts:
    """Blocks of keys at fixed distances: block c holds start + c + shift for each of `shifts`.

    All of them lie inside the tensor. With blocks of one query row this is a set of diagonals.
    """

    start: int
    count: int
    shifts: tuple[int, ...]
    step: int = 1

    @property
    def width(self) -> int:
        return len(self.shifts)

    def diagonal(self, x_GND: Tensor, at: int) -> Tensor:
        """[G, C, D], a view: the key of every block at shift number `at`."""
        return x_GND.narrow(1, self.start + self.shifts[at], self.count)

    def index(self) -> Tensor:
        starts = self.start + torch.arange(self.count, dtype=torch.int32)
        return starts[:, None] + torch.tensor(self.shifts, dtype=torch.int32)

    def blocks(self, first: int, last: int) -> Shifts:
        return replace(self, start=self.start + first, count=last - first)

    def ends(self) -> tuple[Tensor, Tensor]:
        starts = self.start + torch.arange(self.count, dtype=torch.int32)
        return starts + min(self.shifts), starts + (max(self.shifts) + 1)


@dataclass(frozen=True)
class Slots:
    """Blocks of `slots` key blocks of `size` that the data choose, known in a call only.

    `choice` is which of the plan's learned terms chooses, `first` the block row of block 0,
    counted from the first row that chooses.
    """

    choice: int
    first: int
    count: int
    slots: int
    size: int

    @property
    def width(self) -> int:
        return self.slots * self.size

    def blocks(self, first: int, last: int) -> Slots:
        return replace(self, first=self.first + first, count=last - first)

    def index(self) -> Tensor:
        raise ConfigError(
            "plan: got blocks that the data choose, which are known in a call only. Expected a "
            "plan without TopK here; `chosen_blocks` gives the blocks of a call"
        )

    def take(self, x_GND: Tensor) -> Tensor:
        return self.index()

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        self.index()

    def ends(self) -> tuple[Tensor, Tensor]:
        return self.index(), self.index()


@dataclass(frozen=True, eq=False)
class Gather:
    """Blocks of indices that differ between groups, int64 [G, C, width]; -1 as in `Pick`."""

    table: Tensor

    @property
    def count(self) -> int:
        return self.table.shape[1]

    @property
    def width(self) -> int:
        return self.table.shape[2]

    def index(self) -> Tensor:
        """int32 [G, C, width]."""
        return self.table.int()

    def take(self, x_GND: Tensor) -> Tensor:
        flat = x_GND.flatten(0, 1).index_select(0, self._flat(x_GND))
        return flat.view(*self.table.shape, x_GND.shape[2])

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        size = into_GND.shape[2]
        into_GND.view(-1, size).index_add_(0, self._flat(into_GND), blocks.reshape(-1, size))

    def blocks(self, first: int, last: int) -> Gather:
        return Gather(self.table[:, first:last])

    def ends(self) -> tuple[Tensor, Tensor]:
        both = Pick(self.table.transpose(0, 1).flatten(1))
        return both.ends()

    def _flat(self, x_GND: Tensor) -> Tensor:
        starts = x_GND.shape[1] * torch.arange(len(self.table))
        return (self.table.clamp_min(0) + starts[:, None, None]).flatten()


RowAxis = Run | Pick
KeyAxis = Run | Pick | Shifts | Slots | Gather
