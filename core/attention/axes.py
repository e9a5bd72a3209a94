"""How a part of a plan addresses rows: views of neighbours, views of a residue class, gathers.

Shape suffixes: G batch x head, N rows or keys, C blocks, K rows of a block, D head size. Indices
are local: 0 is the first row of the tensor, whatever its position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from core.attention.static import lasting, unknown
from core.errors import ConfigError

_FEW, _LONG = 8, 2  # stretches of a block, and places of a stretch


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

    @cached_property
    @lasting()
    def slots(self) -> tuple[Tensor, int, int]:
        """The same places as stretches: the first of each, int64 [C, S], their length, and how far
        apart the places of one lie."""
        table = self.table
        if bool((table < 0).any()):  # a stretch would count on from there
            return table, 1, 1
        apart = table.diff(dim=1)
        if self.width > 1 and bool((apart == apart[0, 0]).all()) and int(apart[0, 0]) > 0:
            return table[:, :1], self.width, int(apart[0, 0])
        ends = (apart != 1).any(0).nonzero().flatten()
        size = int(ends[0]) + 1 if len(ends) else self.width
        if self.width % size == 0 and bool((table.unflatten(1, (-1, size)).diff(dim=2) == 1).all()):
            return table[:, ::size], size, 1
        return table, 1, 1

    @property
    def scattered(self) -> bool:
        """Whether going from stretch to stretch is most of the work."""
        first, size, _ = self.slots
        return first.shape[1] > _FEW and size < _LONG

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
class KeyBlocks:
    """Slots of `size` neighbouring keys: the first key of each, int64 [C, S], or [G, C, S] where
    groups differ, of `keys` there are.

    A slot may begin before the first key or end after the last; what lies outside counts for
    nothing. `ABSENT` stands for a slot without keys.
    """

    first: Tensor
    size: int
    keys: int

    ABSENT: ClassVar[int] = -(1 << 40)

    @property
    def count(self) -> int:
        return self.first.shape[-2]

    @property
    def width(self) -> int:
        return self.first.shape[-1] * self.taken

    @property
    def taken(self) -> int:
        """Keys of a slot that can lie inside."""
        return min(self.size, self.keys)

    @cached_property
    @lasting()
    def _starts(self) -> Tensor:
        return self.first.clamp(0, self.keys - self.taken)

    @cached_property
    def ragged(self) -> bool:
        """Whether some place holds no key of its slot, as far as a trace knows."""
        if self.taken < self.size or unknown(self.first):
            return True
        return bool((self._starts != self.first).any())

    def index(self) -> Tensor:
        """int32 [C, width] or [G, C, width], -1 where there is no key."""
        first = self.first[..., None]
        keys = self._starts[..., None] + torch.arange(self.taken)
        inside = (keys >= first) & (keys < first + self.size)
        return keys.masked_fill_(~inside, -1).flatten(-2).int()

    def take(self, x_GND: Tensor, out: Tensor | None = None) -> Tensor:
        """[G, C, width, D], a copy of slots as wholes; in `out`, of that many numbers."""
        groups, rows, size = x_GND.shape
        # every stretch of a slot's length, as rows that overlap
        stretches = x_GND.as_strided(
            (groups * rows - self.taken + 1, self.taken * size), (size, 1), x_GND.storage_offset()
        )
        starts = self._starts + rows * torch.arange(groups)[:, None, None]
        shape = (groups, self.count, self.width, size)
        out = x_GND.new_empty(shape) if out is None else out
        torch.index_select(stretches, 0, starts.flatten(), out=out.view(-1, stretches.shape[1]))
        return out.view(shape)

    def add(self, into_GND: Tensor, blocks_GCKD: Tensor) -> None:
        """The adjoint of `take`: slots that lie on the grid of whole blocks are added as wholes."""
        groups, rows, size = into_GND.shape
        slots = blocks_GCKD.reshape(groups, -1, self.taken * size)
        starts = self._starts.flatten(-2)
        off = (starts % self.taken != 0) | (starts + self.taken > rows - rows % self.taken)
        if bool(off.any()):
            self._add_rows(into_GND, slots, starts, off)
        whole = rows // self.taken
        number = torch.where(off, 0, starts // self.taken).expand(groups, -1)
        if rows % self.taken == 0:
            number = (number + whole * torch.arange(groups)[:, None]).flatten()
            into_GND.view(groups * whole, -1).index_add_(0, number, slots.flatten(0, 1))
        else:
            for into, at, some in zip(into_GND, number, slots, strict=True):
                into[: whole * self.taken].view(whole, -1).index_add_(0, at, some)

    def _add_rows(self, into_GND: Tensor, slots: Tensor, starts: Tensor, off: Tensor) -> None:
        """Adds the slots that are `off` the grid row by row, and leaves zeros in their place."""
        groups, _, size = into_GND.shape
        within = torch.arange(self.taken)
        for group in range(groups):
            at = off if off.ndim == 1 else off[group]
            some = starts[at] if starts.ndim == 1 else starts[group, at]
            rows = (some[:, None] + within).flatten()
            into_GND[group].index_add_(0, rows, slots[group, at].view(-1, size))
            slots[group, at] = 0

    def blocks(self, first: int, last: int) -> KeyBlocks:
        some = replace(self, first=self.first[..., first:last, :])
        if not self.ragged:  # then no block of it is
            vars(some).update(ragged=False, _starts=some.first)
        return some

    def ends(self) -> tuple[Tensor, Tensor]:
        index = self.index()
        both = Pick((index.transpose(0, 1).flatten(1) if index.ndim == 3 else index).long())
        return both.ends()


RowAxis = Run | Pick
KeyAxis = Run | Pick | Shifts | Slots | KeyBlocks
