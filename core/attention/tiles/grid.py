"""One grid: rows and columns of blocks, where each comes from, which tiles count, and the rule.

Shape suffixes: B batch, F frames, Q rows, K columns, N queries, R blocks of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from core.attention.static import lasting
from core.attention.tiles.bounds import Reach, along, ends
from core.attention.tiles.rules import Rule, Scope
from core.attention.tiles.tiles import (
    BLOCK,
    Lists,
    Tiles,
    block_mask,
    lists,
    longest,
    split,
    turned,
)

V = TypeVar("V")  # the view
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Grid(Generic[V]):
    """Local query rows row_FQ (padding repeats one) against local key rows col_FK (-1: none).

    `seen` has the key blocks of every query block, `seen_by` the same tiles by key block; they
    have one frame where all frames share them. `plain`: the rule is a band.
    """

    view: V
    row_FQ: Tensor
    col_FK: Tensor
    seen: Lists
    seen_by: Lists
    rule: Rule
    scope: Scope
    plain: bool = False

    def mask(self, bounds_BN2: Tensor | None) -> BlockMask:
        """For B x F problems; the lists of F where they serve all sequences."""
        return self._unbounded if bounds_BN2 is None else self._bounded(bounds_BN2)

    @cached_property
    @lasting()
    def _unbounded(self) -> BlockMask:
        seen, seen_by = (split(x, x.held()[None], x.full[None]) for x in (self.seen, self.seen_by))
        return block_mask(seen, seen_by, self._lengths(), BLOCK, self._mask_mod())

    def _bounded(self, bounds_BN2: Tensor) -> BlockMask:
        """Blocks that bounds empty are in no list, full ones that they cut are partial."""
        bounds_BN2 = bounds_BN2.to(self.row_FQ.dtype)
        reach, (first, last) = Reach.of(bounds_BN2, self.row_FQ), ends(self.col_FK)
        seen, seen_by = self.seen, self.seen_by
        at, by = (x.index.long()[None] for x in (seen, seen_by))
        found = reach.map(lambda x: x[..., None]).meets(along(first, at), along(last, at))
        found_by = reach.map(lambda x: along(x, by)).meets(first[..., None], last[..., None])
        return block_mask(
            split(seen, found[0], found[1] & seen.full),
            split(seen_by, found_by[0], found_by[1] & seen_by.full),
            self._lengths(),
            BLOCK,
            self._mask_mod_within(bounds_BN2),
        )

    def size(self) -> int:
        """Bytes, with the lists of `mask`: two numbers a place, of partial and of full blocks."""
        places = self.seen.index.numel() + self.seen_by.index.numel()
        own = self.seen.index.element_size() + self.seen.full.element_size()
        return self.row_FQ.nbytes + self.col_FK.nbytes + places * (own + 8)

    def _lengths(self) -> tuple[int, int]:
        return self.row_FQ.shape[1], self.col_FK.shape[1]

    def _mask_mod(self) -> MaskMod:
        rows, cols, rule = self.row_FQ, self.col_FK, self.rule
        number, scope = self.scope.number, self.scope
        frames, first_row, first_col = map(number, (len(rows), scope.q.start, scope.kv.start))

        def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            frame = batch % frames
            row, col = rows[frame, query], cols[frame, key]
            there = col >= 0
            col = col.clamp_min(0)
            return there & rule(row + first_row, col + first_col, row, col)

        return mask_mod

    def _mask_mod_within(self, bounds_BN2: Tensor) -> MaskMod:
        inner, rows, cols = self._mask_mod(), self.row_FQ, self.col_FK
        frames, batch_size = map(self.scope.number, (len(rows), len(bounds_BN2)))
        room = (0, len(self.scope.q) - bounds_BN2.shape[1])
        lows, highs = (F.pad(side, room) for side in bounds_BN2.unbind(-1))

        def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            frame, sequence = batch % frames, batch // frames % batch_size
            row, col = rows[frame, query], cols[frame, key]
            bounded = (col >= lows[sequence, row]) & (col < highs[sequence, row])
            return bounded & inner(batch, head, query, key)

        return mask_mod


def grid(
    view: V, row_FQ: Tensor, col_FK: Tensor, tiles: Tiles, used: Tensor, rule: Rule, scope: Scope
) -> Grid[V]:
    """A grid of unique `tiles` in frames as many as `used` [frames, R] has: less the tiles of rows
    that are padding (not `used`) or of columns that are, none full that a place is missing from.

    The width of the lists is that of all tiles, so that it is the same for a bucket's lengths.
    """
    frames, rows = used.shape
    there = (col_FK >= 0).unflatten(-1, (-1, BLOCK))
    some, every = there.any(-1), there.all(-1)
    if frames == 1:
        some, every = some.any(0, keepdim=True), every.all(0, keepdim=True)
    cols = some.shape[1]
    widths = longest(tiles.rows, cols), longest(turned(tiles, rows, cols).rows, rows)
    frame = tiles.rows // rows
    tiles = tiles._replace(full=tiles.full & every[frame, tiles.cols])
    tiles = tiles.where(used.flatten()[tiles.rows] & some[frame, tiles.cols])
    seen = lists(tiles, frames, rows, widths[0]).to(scope.device)
    seen_by = lists(turned(tiles, rows, cols), frames, cols, widths[1]).to(scope.device)
    row, col = (scope.table(at).contiguous() for at in (row_FQ, col_FK))
    return Grid(view, row, col, seen, seen_by, rule, scope)
