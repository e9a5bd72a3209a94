"""How a part of a plan addresses rows: views of neighbours, views of a residue class, gathers.

Shape suffixes: G batch x head, N rows or keys, C blocks, K rows of a block, D head size. Indices
are local: 0 is the first row of the tensor, whatever its position.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

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
    """Blocks of key blocks that differ between groups: `first`, int64 [G, C, S], is the index of
    the first of `size` neighbours. Those outside of 0 .. keys - 1 count for nothing.

    `scratch` is where the pieces of a part write what they take, one after the other: memory that
    is fresh for each would cost as much as the copy. What `take` returns holds until the next.
    """

    first: Tensor
    size: int
    keys: int
    scratch: dict[int, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.first.shape[1]

    @property
    def width(self) -> int:
        return self.first.shape[2] * self.size

    @cached_property
    def gaps(self) -> bool:
        return bool(((self.first < 0) | (self.first > self.keys - self.size)).any())

    def index(self) -> Tensor:
        """int32 [G, C, width]; -1 as in `Pick`."""
        each = (self.first[..., None] + torch.arange(self.size)).flatten(2)
        return each.masked_fill((each < 0) | (each >= self.keys), -1).int()

    def take(self, x_GND: Tensor) -> Tensor:
        rows, index = self._rows(x_GND)
        held = self.scratch.get(x_GND.data_ptr())
        wanted = len(index) * rows.shape[1]
        if held is None or held.numel() < wanted:
            held = self.scratch[x_GND.data_ptr()] = x_GND.new_empty(wanted)
        taken = held[:wanted]
        torch.index_select(rows, 0, index, out=taken.view(len(index), -1))
        return taken.view(*self.first.shape[:2], self.width, x_GND.shape[2])

    def add(self, into_GND: Tensor, blocks: Tensor) -> None:
        rows, index = self._rows(into_GND)
        rows.index_add_(0, index, blocks.reshape(-1, rows.shape[1]))

    def blocks(self, first: int, last: int) -> Gather:
        return replace(self, first=self.first[:, first:last])

    def ends(self) -> tuple[Tensor, Tensor]:
        return Pick(self.index().transpose(0, 1).flatten(1).long()).ends()

    def _rows(self, x_GND: Tensor) -> tuple[Tensor, Tensor]:
        """The tensor as a list of rows, whole blocks where the list has them, and which to take."""
        groups, keys, channels = x_GND.shape
        blocks = keys % self.size == 0 and bool((self.first % self.size == 0).all())
        size = self.size if blocks else 1
        starts = torch.arange(groups)[:, None, None] * (keys // size)
        local = self.first // size if blocks else self.index().long()
        index = local.clamp(0, keys // size - 1) + starts
        return x_GND.view(-1, size * channels), index.flatten()


RowAxis = Run | Pick
KeyAxis = Run | Pick | Shifts | Slots | Gather
