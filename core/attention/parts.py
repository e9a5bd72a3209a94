"""One part of a plan: blocks of query rows against blocks of keys, and which pairs count.

Shape suffixes: C blocks, R rows a block, K keys a block, B batch, N rows. Indices are local: 0 is
the first row of the tensor, whatever its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from core.attention.axes import KeyAxis, KeyBlocks, Pick, RowAxis, Run, Shifts, Slots

_NARROW = 16  # keys of a row
_TALL = 8  # rows of a block
_PASSES = 4  # a narrow part goes over its rows this often, so that fewer should fit in the cache
_WORTH_TRIMMING = 0.9  # share of the keys up to which a narrower block pays for its own mask
Rule = Callable[[Tensor, Tensor], Tensor]
Name = Literal["band", "columns", "strided", "log", "fixed", "blocks", "rows", "chosen"]


@dataclass(frozen=True, eq=False)
class Part:
    """Pairs (i, j) in blocks rows x cols with i - left <= j <= i + right, keep[j] and rule(i, j).

    `left` and `right` are None where unlimited and negative where the limit lies beyond the
    query itself; `keep` and `rule` are None where all pass. `rule` takes absolute positions;
    `even` says that it depends on j - i only. `origin` is the position of index 0 of queries and
    of keys. Parts named "rows" come after all but "chosen" ones and replace what these found in
    their rows; of the others, one that `starts` has rows that no earlier part has, and the rest
    add to them.
    """

    name: Name
    origin: tuple[int, int]
    rows: RowAxis
    cols: KeyAxis
    left: int | None = None
    right: int | None = None
    keep: Tensor | None = None
    rule: Rule | None = None
    even: bool = False
    starts: bool = False

    @property
    def count(self) -> int:
        return max(self.rows.count, self.cols.count)

    def area(self) -> int:
        """Pairs computed, masked ones included."""
        return self.count * self.rows.width * self.cols.width

    @property
    def narrow(self) -> bool:
        """Whether a row has so few keys that it is worked out by products of views."""
        if isinstance(self.cols, Shifts):
            return True
        one = isinstance(self.rows, Run) and isinstance(self.cols, Pick) and self.count == 1
        return one and self.cols.width <= _NARROW and self.rows.width > _NARROW

    @property
    def tall(self) -> bool:
        """Whether blocks of many rows meet keys that lie in even stretches."""
        keys = isinstance(self.cols, Run | KeyBlocks | Slots)
        keys = keys or (isinstance(self.cols, Pick) and not self.cols.scattered)
        return keys and self.name != "rows" and self.rows.width >= _TALL

    @property
    def ruled(self) -> bool:
        """Whether more than the limits of a query decides which of its keys count."""
        return self.keep is not None or self.rule is not None

    @cached_property
    def full(self) -> bool:
        """Whether every pair of the blocks counts, so that no mask is needed."""
        limited = self.left is not None or self.right is not None
        gaps = isinstance(self.cols, Pick) and bool((self.cols.table < 0).any())
        gaps = gaps or (isinstance(self.cols, KeyBlocks) and self.cols.ragged)
        return not (limited or self.ruled or gaps)

    def blocks(self, first: int, last: int) -> Part:
        return replace(self, rows=self.rows.blocks(first, last), cols=self.cols.blocks(first, last))

    def split(self, area: int, lines: int, copied: bool = False) -> Iterator[Part]:
        """Pieces of at most `lines` rows and `area` pairs, where blocks allow it.

        Keys count as rows do where they are `copied`, which also lets a single block be cut along
        its keys; pairs count only where each has a place of its own in a mask.
        """
        if self.narrow:
            yield from self._rows_split(min(max(1, lines // _PASSES), area // self.cols.width))
        elif self.count > 1:
            rows, keys = self.rows.width, self.cols.width
            step = lines // (max(rows, keys) if copied or not isinstance(self.cols, Run) else rows)
            if not (self.full or self.alike):
                step = min(step, area // (rows * keys))
            for at in range(0, self.count, max(1, step)):
                piece = self.blocks(at, min(at + max(1, step), self.count))
                yield from piece.split(area, lines, copied) if piece.count == 1 else (piece,)
        elif (
            copied
            and isinstance(self.cols, Run)
            and self.cols.width > 2 * max(lines, self.rows.width)
        ):
            for some in self._keys_split(max(lines, self.rows.width)):
                yield from some.split(area, lines)
        else:
            fits = self.full or self.area() <= area
            yield from (self,) if fits else self._rows_split(area // self.cols.width)

    def _rows_split(self, step: int) -> Iterator[Part]:
        """Pieces of `step` rows of a single block, or of blocks of a single row."""
        total = self.count * self.rows.width
        for at in range(0, total, max(1, step)):
            last = min(at + max(1, step), total)
            if self.count > 1:
                yield self.blocks(at, last)
            else:
                yield replace(self, rows=self.rows.within_block(at, last))

    def _keys_split(self, step: int) -> Iterator[Part]:
        """Pieces of `step` keys of a single block."""
        assert isinstance(self.cols, Run)
        for at in range(0, self.cols.width, step):
            some = self.cols.within_block(at, min(at + step, self.cols.width))
            yield replace(self, cols=some)

    def within(self, bounds_BN2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What bounds leave of each block: (cut, low, high), each [C].

        cut: whether they take any pair away; low, high: the local keys [low, high) that some row
        may still see, low >= high where no row sees any.
        """
        low, high = self.seen()
        bound = self.rows.take(bounds_BN2)
        cut = ((bound[..., 0] > low) | (bound[..., 1] < high)).any(-1).any(0)
        low, high = torch.maximum(low, bound[..., 0]), torch.minimum(high, bound[..., 1])
        none = low >= high
        low = low.masked_fill(none, torch.iinfo(low.dtype).max).amin(-1).amin(0)
        return cut, low, high.masked_fill(none, 0).amax(-1).amax(0)

    def seen(self) -> tuple[Tensor, Tensor]:
        """The keys [low, high) of the block that each row may see, two int32 [C, R]."""
        first, last = self.cols.ends()
        low, high = self.interval(self.rows.index())
        return torch.maximum(low, first[:, None]), torch.minimum(high, last[:, None])

    def trimmed(self, low: int, high: int) -> Part:
        """Without the keys before `low` and from `high` on, counted inside each block."""
        if not isinstance(self.cols, Run) or high - low > _WORTH_TRIMMING * self.cols.width:
            return self
        return replace(self, cols=self.cols.within_block(low, high))

    def mask(self, bounds_BN2: Tensor | None = None) -> Tensor:
        """Which pairs count: bool [B, C, R, K]; B and C are 1 where all blocks share one mask, R
        is 1 where all rows of a block do.

        Where heads have keys of their own it is [G, C, R, K].
        """
        shared = bounds_BN2 is None and self.alike
        return self.blocks(0, 1)._mask(None) if shared else self._mask(bounds_BN2)

    @cached_property
    def alike(self) -> bool:
        """Whether the same places of every block count, bounds aside."""
        rows, cols = self.rows, self.cols
        if isinstance(rows, Pick) or not isinstance(cols, Run | Shifts):
            return False
        steady = self.keep is None and (self.rule is None or self.even)
        return steady and (rows.count == 1 or rows.step == cols.step)

    def _mask(self, bounds_BN2: Tensor | None) -> Tensor:
        i, j = self.rows.index(), self.cols.index()
        if self.left is None and self.right is None and self.rule is None and bounds_BN2 is None:
            return self._kept(j[..., None, :])
        low, high = self.interval(i)
        if bounds_BN2 is not None:
            bound = self.rows.take(bounds_BN2)
            if j.ndim == 3 and len(bound) > 1:  # keys of each head, bounds of each sequence
                bound = bound.repeat_interleave(len(j) // len(bound), 0)
            low, high = torch.maximum(low, bound[..., 0]), torch.minimum(high, bound[..., 1])
        j = j[..., None, :]
        mask = (j >= low[..., None]) & (j < high[..., None]) & self._kept(j)
        if self.rule is not None:
            first_query, first_key = self.origin
            mask &= self.rule(i.long()[..., None] + first_query, j.long() + first_key)
        return mask if mask.ndim == 4 else mask[None]

    def _kept(self, j: Tensor) -> Tensor:
        """Whether there is a key and it counts for all rows: bool [1 or G, C, 1, K]."""
        kept = j >= 0
        if self.keep is not None:
            kept &= self.keep[j.long()]
        return kept if kept.ndim == 4 else kept[None]

    def interval(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """Half-open local key interval of the window of local rows i, int32; it excludes -1."""
        own = i + (self.origin[0] - self.origin[1])
        low = torch.zeros_like(own) if self.left is None else (own - self.left).clamp_min(0)
        top = torch.iinfo(torch.int32).max
        high = torch.full_like(own, top) if self.right is None else own + (self.right + 1)
        return low, high
