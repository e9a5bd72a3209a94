"""Lists of blocks as FlexAttention reads them, in both directions, as narrow as they can be.

FlexAttention's own constructors make lists as wide as there are blocks, (n / block)^2 numbers of
each, 268 MB a list at a million tokens. Its Triton kernels, forward and backward, step through a
row by the stride of the tensor and stop at the row's count, so a row needs no more columns than
the longest row has blocks: 2 MB for a window. A column that all queries see makes the lists by
key block that wide again, 0.9 GB together at a million tokens. (FlexAttention's own
`to_dense`, `sparsity` and printing take the width for the number of blocks; so does its compiled
CPU kernel, which this library doesn't use.)

Shape suffixes: F frames, B batch x frames, R blocks of rows, C columns of a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
_LEAST_WIDTH = 64  # of lists: nothing to hold, and enough for most patterns


class Tiles(NamedTuple):
    """Block rows int64, block columns int64 and whether every pair counts, a tile each."""

    rows: Tensor
    cols: Tensor
    full: Tensor

    def where(self, kept: Tensor) -> Tiles:
        return Tiles(self.rows[kept], self.cols[kept], self.full[kept])


def united(tiles: Iterable[Tiles], width: int) -> Tiles:
    """Every tile once, full where one of them is, in the order of rows and columns."""
    rows, cols, full = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    keys, at = torch.unique(rows * width + cols, return_inverse=True)
    whole = torch.zeros(len(keys), dtype=torch.bool)
    whole[at[full]] = True
    return Tiles(keys // width, keys % width, whole)


@dataclass(frozen=True, eq=False)
class Lists:
    """For each row the numbers of its columns, int32 [F, R, C], the first `count` [F, R] of them,
    and which of them are full, bool [F, R, C]."""

    index: Tensor
    count: Tensor
    full: Tensor

    def held(self) -> Tensor:
        """bool [F, R, C]: which places of the index hold a block."""
        places = torch.arange(self.index.shape[-1], device=self.index.device)
        return places < self.count[..., None]

    def to(self, device: torch.device) -> Lists:
        return Lists(self.index.to(device), self.count.to(device), self.full.to(device))


def lists(tiles: Tiles, frames: int, rows: int, width: int) -> Lists:
    """Tiles, sorted by row, as lists; row f * rows + r is row r of frame f."""
    count = torch.bincount(tiles.rows, minlength=frames * rows)
    place = torch.arange(len(tiles.rows)) - (count.cumsum(0) - count)[tiles.rows]
    index = torch.zeros(frames * rows, width, dtype=torch.int32)
    full = torch.zeros(frames * rows, width, dtype=torch.bool)
    index[tiles.rows, place] = tiles.cols.int()
    full[tiles.rows, place] = tiles.full
    shape = (frames, rows, width)
    return Lists(index.view(shape), count.int().view(shape[:2]), full.view(shape))


def turned(tiles: Tiles, rows: int, cols: int) -> Tiles:
    """The same tiles by key block: row f * cols + c, column r."""
    frame, row = tiles.rows // rows, tiles.rows % rows
    back = Tiles(frame * cols + tiles.cols, row, tiles.full)
    order = torch.argsort(back.rows * rows + back.cols)
    return back.where(order)


def longest(rows: Tensor, most: int) -> int:
    """Columns that lists of these rows need: a power of two, so that few widths are compiled."""
    count = int(torch.bincount(rows).max()) if len(rows) else 0
    return min(most, max(_LEAST_WIDTH, 1 << (count - 1).bit_length()))


def split(given: Lists, kept: Tensor, whole: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts and indices of partial and of full blocks: int32 [B, 1, R] and [B, 1, R, C].

    kept, whole: bool [sequences, F, R, C], which places are listed and which of those are full.
    """
    held = given.held() & kept
    index = given.index.expand_as(held).flatten(0, 1)
    partial, full = ((held & some).flatten(0, 1) for some in (~whole, whole))
    return *packed(index, partial), *packed(index, full)


def packed(index: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many numbers of a row are chosen, and these first, in their order: [B, H, R, C] or, of
    one head, [B, R, C]."""
    place = (chosen.cumsum(-1) - 1).masked_fill(~chosen, index.shape[-1])
    room = index.new_zeros((*index.shape[:-1], index.shape[-1] + 1))
    first = room.scatter_(-1, place, index)[..., :-1].contiguous()
    count = chosen.sum(-1).int()
    return (count, first) if chosen.ndim == 4 else (count[:, None], first[:, None])


def block_mask(
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    seen_by: tuple[Tensor, Tensor, Tensor, Tensor],
    lengths: tuple[int, int],
    block: int,
    mask_mod: object,
) -> BlockMask:
    """From the lists by query block and those by key block, which must agree."""
    return BlockMask(lengths, *seen, *seen_by, BLOCK_SIZE=(block, block), mask_mod=mask_mod)  # pyright: ignore[reportArgumentType]
