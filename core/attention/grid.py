"""How many aligned blocks of a grid a plan touches: what a block-sparse kernel cannot go below.

Each part is counted in its frame: the sequence itself, or a residue class where a part's rows
are `pitch` apart. A block that several parts of a frame touch counts once.

Shape suffixes: C blocks of a part, A row blocks of the grid, B key blocks of the grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from core.attention.axes import KeyBlocks, Pick, Run, Shifts, Slots
from core.attention.parts import Part

_WIDE = 1 << 32  # more blocks than a row of the grid has
_SEEN = 1 << 20  # pairs that are looked at at a time
_Frame = tuple[int, int]  # pitch, class


def grid_area(parts: Sequence[Part], size: int) -> int:
    """Pairs in the blocks of `size` x `size`, on multiples of `size`, that the parts touch."""
    found: dict[_Frame, list[Tensor]] = defaultdict(list)
    for part in parts:
        for frame, blocks in _touched(part, size):
            found[frame].append(blocks.unique())
    return size * size * sum(len(torch.cat(blocks).unique()) for blocks in found.values())


def _touched(part: Part, size: int) -> Iterator[tuple[_Frame, Tensor]]:
    """For each frame of the part: its blocks as row * _WIDE + column, repeats allowed."""
    rows, cols = part.rows, part.cols
    if isinstance(cols, Slots):
        yield (0, part.rows.width), torch.arange(_chosen_blocks(part, cols, size))
    elif isinstance(cols, Shifts):
        yield (1, 0), _diagonal_blocks(part, cols, size)
    elif not part.full and (
        not isinstance(cols, Run) or (part.rule is not None and cols.pitch == 1)
    ):
        yield (1, 0), _ruled_blocks(part, size)
    elif isinstance(rows, Run) and isinstance(cols, Run):
        for frame, some_rows, some_cols in _by_class(part, rows, cols):
            yield frame, _window_blocks(part, some_rows, some_cols, rows.pitch, size)
    else:
        row_CA = _blocks(rows, part.origin[0], size)[:, :, None]
        key_CB = _blocks(cols, part.origin[1], size)[:, None, :]
        met = (row_CA * _WIDE + key_CB)[(key_CB >= 0).expand(-1, row_CA.shape[1], -1)]
        yield (1, 0), met


def _chosen_blocks(part: Part, cols: Slots, size: int) -> int:
    """Which blocks the data choose is not known, how many at most is."""
    row = (part.rows.index()[:, 0].long() + part.origin[0]) // cols.size
    seen = row + 1 if part.right == 0 else torch.full_like(row, cols.slots)
    height, width = -(-part.rows.width // size), -(-cols.size // size)
    return int(seen.clamp_max(cols.slots).sum()) * height * width


def _ruled_blocks(part: Part, size: int) -> Tensor:
    """By looking at every pair, for parts that have few."""
    met: list[Tensor] = []
    for piece in part.split(_SEEN, _SEEN):
        row_CR1 = piece.rows.index().long()[:, :, None] + part.origin[0]
        key_C1K = piece.cols.index().long()[:, None, :] + part.origin[1]
        blocks = row_CR1 // size * _WIDE + key_C1K // size
        met.append(blocks[piece.mask()[0].expand(blocks.shape)].unique())
    return torch.cat(met)


def _diagonal_blocks(part: Part, cols: Shifts, size: int) -> Tensor:
    row = part.rows.index().flatten().long() + part.origin[0]
    first = cols.start + part.origin[1] + torch.arange(cols.count)
    met = [row // size * _WIDE + (first + shift) // size for shift in cols.shifts]
    return torch.cat([blocks.unique() for blocks in met])


def _by_class(part: Part, rows: Run, cols: Run) -> Iterator[tuple[_Frame, Run, Run]]:
    """The blocks of each residue class, positions counted along the class."""
    pitch = rows.pitch
    classes = rows.count if rows.step % pitch else 1
    for block in range(classes):
        last = block + 1 if classes > 1 else rows.count
        some_rows, some_cols = rows.blocks(block, last), cols.blocks(block, last)
        first_row, first_col = some_rows.start + part.origin[0], some_cols.start + part.origin[1]
        yield (
            (pitch, first_row % pitch),
            _along(some_rows, first_row // pitch),
            _along(some_cols, first_col // pitch),
        )


def _along(run: Run, start: int) -> Run:
    return Run(start, run.step // run.pitch, run.count, run.width)


def _window_blocks(part: Part, rows: Run, cols: Run, pitch: int, size: int) -> Tensor:
    """Blocks with a pair inside the limits; every distance of a window is taken."""
    low_CA, high_CA, row_CA = _cells(rows, size)
    low_CB, high_CB, key_CB = _cells(cols, size)
    met = torch.ones(1, dtype=torch.bool)
    if part.left is not None:
        met = met & (high_CB[:, None, :] >= low_CA[:, :, None] - part.left // pitch)
    if part.right is not None:
        met = met & (low_CB[:, None, :] <= high_CA[:, :, None] + part.right // pitch)
    blocks = row_CA[:, :, None] * _WIDE + key_CB[:, None, :]
    inside = (low_CA <= high_CA)[:, :, None] & (low_CB <= high_CB)[:, None, :]
    return blocks[met & inside]


def _cells(run: Run, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each block of the run lies on the grid: first and last place in each cell, and the
    cell's number; first above last in cells that it doesn't reach."""
    start = run.start + run.step * torch.arange(run.count)[:, None]
    cell = start // size + torch.arange((run.width - 1) // size + 2)
    low = torch.maximum(start, cell * size)
    high = torch.minimum(start + run.width, (cell + 1) * size) - 1
    return low, high, cell


def _blocks(axis: Run | Pick | KeyBlocks, origin: int, size: int) -> Tensor:
    """int64 [C, blocks]: what each block of the axis touches, repeats allowed, -1 for nothing."""
    index = axis.index().long()
    if isinstance(axis, Run):
        index = torch.cat((index[:, :: max(1, size // axis.pitch)], index[:, -1:]), 1)
    return torch.where(index < 0, -1, (index + origin) // size)
