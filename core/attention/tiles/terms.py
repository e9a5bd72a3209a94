"""Which tiles a term of a pattern touches, and which it fills: by arithmetic on positions.

The tiles are a superset of what is touched, close to it, and a tile said to be full is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.blocks import Blockwise
from core.attention.steps import Fixed, LogSparse, Strided
from core.attention.tiles.rules import drawn_blocks, has_rule, marks
from core.attention.tiles.tiles import Tiles
from core.attention.tokens import Global
from core.errors import ConfigError


class Sides:
    """First and last positions of the blocks of queries and of keys."""

    def __init__(self, q: range, kv: range, block: int) -> None:
        self.q, self.kv, self.block = q, kv, block
        self.i0, self.i1 = _ends(q, block)
        self.j0, self.j1 = _ends(kv, block)

    def all_rows(self) -> Tensor:
        return torch.arange(len(self.i0))


def term_tiles(term: Term, sides: Sides, rows: bool = True, columns: bool = True) -> Tiles:
    """The tiles of `term`; on demand without those of global rows, or of columns that all see."""
    parts = [_cut(tiles, term, sides) for tiles in _candidates(term, sides, rows, columns)]
    none = torch.zeros(0, dtype=torch.int64)
    parts.append(Tiles(none, none, none.bool()))
    return Tiles(*(torch.cat(found) for found in zip(*parts, strict=True)))


def column_marks(term: Term, kv: range) -> Tensor:
    """bool [keys]: the keys that queries see from everywhere within the term's limits."""
    if isinstance(term.base, Global):
        return marks(term.base, kv)
    if isinstance(term.base, Fixed):
        at = torch.arange(kv.start, kv.stop)
        return at % term.base.step >= term.base.step - term.base.summary
    return torch.zeros(len(kv), dtype=torch.bool)


def near(term: Term, low: tuple[Tensor, Tensor], high: tuple[Tensor, Tensor]) -> Tensor:
    """Whether some pair of queries low[0] .. high[0], keys low[1] .. high[1] is in the limits."""
    kept = torch.ones_like(low[0], dtype=torch.bool)
    if term.left is not None:
        kept &= high[1] >= low[0] - term.left
    if term.right is not None:
        kept &= low[1] <= high[0] + term.right
    return kept


def inside(term: Term, low: tuple[Tensor, Tensor], high: tuple[Tensor, Tensor]) -> Tensor:
    """Whether every such pair is in the limits."""
    kept = torch.ones_like(low[0], dtype=torch.bool)
    if term.left is not None:
        kept &= low[1] >= high[0] - term.left
    if term.right is not None:
        kept &= high[1] <= low[0] + term.right
    return kept


def _cut(tiles: Tiles, term: Term, sides: Sides) -> Tiles:
    low = sides.i0[tiles.rows], sides.j0[tiles.cols]
    high = sides.i1[tiles.rows], sides.j1[tiles.cols]
    full = tiles.full & inside(term, low, high)
    return Tiles(tiles.rows, tiles.cols, full).where(near(term, low, high))


def _candidates(term: Term, sides: Sides, rows: bool, columns: bool) -> Iterator[Tiles]:
    base = term.base
    match base:
        case None:
            yield _limited(term, sides, sides.all_rows(), full=True)
        case Global():
            if rows:
                held = _per_block(marks(base, sides.q), sides.block)
                some = held.any(1).nonzero().flatten()
                tiles = _limited(term, sides, some, full=True)
                yield tiles._replace(full=held.all(1)[tiles.rows])
        case Blockwise():
            yield from _drawn(base, sides)
        case Fixed(step, _):
            first = sides.i0 // step * step
            own = _intervals(sides, sides.all_rows(), first, sides.i1 // step * step + step - 1)
            # the last tile may end before the own block begins
            same = sides.i0[own.rows] // step == sides.j0[own.cols] // step
            yield own._replace(full=same & _same_block(own, sides, step))
        case LogSparse():
            farthest = max(sides.q.stop, sides.kv.stop) - min(sides.q.start, sides.kv.start)
            powers = base.powers(farthest)
            yield from _diagonals(sides, [0, *powers, *(-power for power in powers)])
        case Strided(step):
            if step <= sides.block:  # every block holds a multiple
                yield _limited(term, sides, sides.all_rows(), full=False)
            else:
                low, high = sides.kv.start - sides.q.stop + 1, sides.kv.stop - sides.q.start
                yield from _diagonals(sides, list(range(-(-low // step) * step, high, step)))
        case other:
            raise ConfigError(f"backend 'flex': got {other!r}, expected a pattern with tiles")
    if columns and base is not None:
        held = _per_block(column_marks(term, sides.kv), sides.block)
        some = held.any(1).nonzero().flatten()
        at, cols = torch.meshgrid(sides.all_rows(), some, indexing="ij")
        yield Tiles(at.flatten(), cols.flatten(), held.all(1)[cols.flatten()])


def _ends(positions: range, block: int) -> tuple[Tensor, Tensor]:
    first = torch.arange(positions.start, positions.stop, block)
    return first, (first + block - 1).clamp_max(positions.stop - 1)


def _per_block(held: Tensor, block: int) -> Tensor:
    """bool [blocks, block]; places past the end hold nothing."""
    return torch.nn.functional.pad(held, (0, -len(held) % block)).view(-1, block)


def _limited(term: Term, sides: Sides, rows: Tensor, full: bool) -> Tiles:
    first = sides.kv.start if term.left is None else sides.i0[rows] - term.left
    last = sides.kv.stop - 1 if term.right is None else sides.i1[rows] + term.right
    tiles = _intervals(sides, rows, first, last)
    return tiles._replace(full=torch.full_like(tiles.full, full))


def _intervals(sides: Sides, rows: Tensor, first: Tensor | int, last: Tensor | int) -> Tiles:
    """The tiles of each of `rows` that hold keys at positions first .. last; none called full."""
    width = len(sides.j0)
    low, high = (torch.as_tensor(at).expand(len(rows)) - sides.kv.start for at in (first, last))
    low = low.div(sides.block, rounding_mode="floor").clamp(0, width)
    high = (high.div(sides.block, rounding_mode="floor") + 1).clamp(0, width)
    count = (high - low).clamp_min(0)
    at = torch.repeat_interleave(torch.arange(len(rows)), count)
    cols = torch.arange(len(at)) - (count.cumsum(0) - count)[at] + low[at]
    return Tiles(rows[at], cols, torch.zeros(len(at), dtype=torch.bool))


def _diagonals(sides: Sides, shifts: list[int]) -> Iterator[Tiles]:
    """The tiles of the pairs (i, i + shift): a block of rows meets at most two of columns."""
    ahead = torch.tensor(shifts, dtype=torch.int64)
    for end in (sides.i0, sides.i1):
        at = end[:, None] + ahead - sides.kv.start
        cols = at.div(sides.block, rounding_mode="floor")
        row, which = ((cols >= 0) & (cols < len(sides.j0))).nonzero(as_tuple=True)
        yield Tiles(row, cols[row, which], torch.zeros(len(row), dtype=torch.bool))


def _drawn(base: Blockwise, sides: Sides) -> Iterator[Tiles]:
    """A drawn block of any size, wherever it lies over the tiles."""
    size, block = base.block, sides.block
    table = drawn_blocks(base, sides.q)
    row, slot = torch.meshgrid(*(torch.arange(n) for n in table.shape), indexing="ij")
    first = sides.q.start // size
    spans = [
        _span((row.flatten() + first) * size, size, sides.q, block),
        _span(table[row, slot].flatten() * size, size, sides.kv, block),
    ]
    tall, ruled = (size - 2) // block + 2, has_rule(base)
    for down in range(tall):
        for over in range(tall):
            rows, cols = (start + by for (start, _), by in zip(spans, (down, over), strict=True))
            kept = (rows <= spans[0][1]) & (cols <= spans[1][1])
            tiles = Tiles(rows[kept], cols[kept], ~kept[kept])
            yield tiles if ruled else tiles._replace(full=_same_block(tiles, sides, size))


def _span(start: Tensor, size: int, positions: range, block: int) -> tuple[Tensor, Tensor]:
    """First and last tile of positions start .. start + size - 1; first > last for none."""
    low = start.clamp_min(positions.start) - positions.start
    high = (start + size).clamp_max(positions.stop) - positions.start - 1
    last = high.div(block, rounding_mode="floor").where(high >= low, -1)
    return low.div(block, rounding_mode="floor"), last


def _same_block(tiles: Tiles, sides: Sides, size: int) -> Tensor:
    """Whether a tile's queries all lie in one block of `size`, and its keys all in one."""
    ends = ((sides.i0, sides.i1, tiles.rows), (sides.j0, sides.j1, tiles.cols))
    rows, cols = (first[at] // size == last[at] // size for first, last, at in ends)
    return rows & cols
