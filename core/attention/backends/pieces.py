"""Parts of a plan under the bounds of a batch, in pieces that fit in the cache, with their masks.

What bounds take away is found block by block: blocks without a pair are left out, blocks that
keep all of theirs need no mask of their own, and the rest lose the keys that no row sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from core.attention.axes import Run, Slots
from core.attention.parts import Part
from core.attention.plan import Plan
from core.attention.static import known, outside_tracing, unknown

MASK_AREA = 1 << 19  # pairs of a mask that is not shared by all blocks
_KEPT = 1 << 23  # numbers in the masks that are kept with a plan
_STRETCHES = 8  # stretches of blocks alike that a piece is cut into; more cost more than they save
_EMPTY, _WHOLE, _CUT = 0, 1, 2
_ALL = 1 << 62
EVERYONE = slice(None)  # all heads of all batch rows


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a part for the heads of some batch rows, its additive mask and its empty rows.

    A tiled piece is for all heads, its mask leaves the limits of a query to the kernel, and
    `bounds` narrow those. `derived` is where a backend keeps what it makes of a piece.
    """

    groups: slice
    part: Part
    mask: Tensor | None
    empty: Tensor | None
    bounds: Tensor | None = None
    derived: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """How much a piece holds: numbers of queries (and of keys, where `copied`) of all heads.

    Where `tiled`, tall parts are not cut to it: `core.attention.backends.tiled` has them.
    """

    numbers: int
    copied: bool
    tiled: bool = False

    def tiles(self, part: Part) -> bool:
        return self.tiled and part.tall

    def masks(self, part: Part) -> bool:
        """Whether pieces need a mask: a tiled one's kernel knows the limits of a query."""
        return part.ruled if self.tiles(part) else not part.full

    def split(self, part: Part, numbers: int) -> Iterator[Part]:
        """Pieces, where a row of all heads is so many `numbers`."""
        if not self.tiles(part):
            yield from part.split(MASK_AREA, max(1, self.numbers // max(1, numbers)), self.copied)
        elif part.ruled:
            yield from part.split(MASK_AREA, _ALL)
        else:
            yield part


def fixed_parts(plan: Plan) -> list[Part]:
    """All parts but those whose keys the data choose, which are `chosen_pieces`."""
    return [part for part in plan.parts if not isinstance(part.cols, Slots)]


def pieces_of(
    plan: Plan, bounds: Tensor | None, heads: int, k_GND: Tensor, size: Size
) -> Iterator[Piece]:
    groups = known(k_GND.shape[0], heads)
    for at, part in enumerate(fixed_parts(plan)):
        if bounds is None:
            yield from _static(plan, at, part, size, groups, k_GND)
        elif size.tiles(part):
            for piece in _static(plan, at, part, size, groups, k_GND):
                if size.tiles(piece.part):
                    yield replace(piece, bounds=bounds)
                else:  # the few rows that were left over
                    yield from _bounded(piece.part, bounds, heads, k_GND, size)
        else:
            for some in size.split(part, groups * k_GND.shape[2]):
                yield from _bounded(some, bounds, heads, k_GND, size)


def _bounded(part: Part, bounds: Tensor, heads: int, k_GND: Tensor, size: Size) -> Iterator[Piece]:
    """A part that isn't tiled, with the bounds in its masks."""
    for piece, cut in _left(part, bounds):
        if cut:
            yield from _cut(piece, bounds, heads, k_GND.dtype)
        else:
            yield _whole(piece, k_GND.dtype, size)


def _static(
    plan: Plan, at: int, part: Part, size: Size, groups: int, k_GND: Tensor
) -> Iterator[Piece]:
    """What lengths alone decide of part number `at`, so that `torch.export` sees constants."""
    channels = k_GND.shape[2]
    tiled = size.tiles(part)  # one piece for any number of heads
    key = (at, tiled) if tiled else (at, size, groups, channels, k_GND.dtype)
    if key not in plan.prepared:
        with outside_tracing():
            pieces = size.split(part, groups * channels)
            plan.prepared[key] = list(_prepared(plan, pieces, size, k_GND.dtype))
    for piece in plan.prepared[key]:
        if isinstance(piece, Part):
            with outside_tracing():
                piece = _whole(piece, k_GND.dtype, size)
        yield piece


def _prepared(
    plan: Plan, pieces: Iterator[Part], size: Size, dtype: torch.dtype
) -> Iterator[Piece | Part]:
    """Pieces with their masks, as long as those of the plan take little memory together; a tiled
    one's is kept in the order of its kernel too."""
    for some in pieces:
        kept = plan.prepared.setdefault("kept", 0)
        piece = _whole(some, dtype, size) if kept < _KEPT else some
        if isinstance(piece, Piece) and piece.mask is not None:
            plan.prepared["kept"] = kept + piece.mask.numel() * (2 if size.tiles(some) else 1)
        yield piece


def _whole(part: Part, dtype: torch.dtype, size: Size) -> Piece:
    if not size.masks(part):
        return Piece(EVERYONE, part, None, None)
    return Piece(EVERYONE, part, *additive(part.mask(), dtype))


def _left(piece: Part, bounds: Tensor) -> Iterator[tuple[Part, bool]]:
    """Stretches of blocks that bounds leave pairs of, and whether they take any."""
    cut, low, high = piece.within(bounds)
    if piece.name == "rows":  # it replaces what others found, with nothing if need be
        yield piece, bool(cut.any())
        return
    seen = low < high
    state = torch.where(seen, torch.where(cut, _CUT, _WHOLE), _EMPTY)
    ends = _changes(state)
    if len(ends) > _STRETCHES:
        state = torch.where(seen, _CUT, _EMPTY)
        ends = _changes(state)
    if len(ends) > _STRETCHES:
        state, ends = torch.full_like(state, _CUT), [0, len(state)]
    for first, last in pairwise(ends):
        kind = int(state[first])
        if kind == _CUT:
            some = slice(first, last)
            yield _trimmed(piece.blocks(first, last), low[some], high[some]), True
        elif kind == _WHOLE:
            yield piece.blocks(first, last), False


def _changes(state: Tensor) -> list[int]:
    return [0, *((state[1:] != state[:-1]).nonzero().flatten() + 1).tolist(), len(state)]


def _trimmed(part: Part, low: Tensor, high: Tensor) -> Part:
    cols, seen = part.cols, low < high
    if not isinstance(cols, Run) or not bool(seen.any()):
        return part
    start = cols.ends()[0][seen]
    first = int((low[seen] - start).min()) // cols.pitch
    last = -(int((start - high[seen]).min()) // cols.pitch)
    return part.trimmed(first, last)


def _cut(piece: Part, bounds: Tensor, heads: int, dtype: torch.dtype) -> Iterator[Piece]:
    """One mask serves all heads of a sequence; small ones are copied for several sequences."""
    batch = len(bounds) if len(bounds) > 1 else 1
    step = max(1, MASK_AREA // (heads * piece.area()))
    for first in range(0, batch, step):
        last = min(first + step, batch)
        rows = slice(first * heads, last * heads) if batch > 1 else EVERYONE
        mask, empty = additive(piece.mask(bounds[first:last]), dtype)
        yield Piece(rows, piece, _per_head(mask, heads), _per_head(empty, heads))


def additive(mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """0 where a pair counts, -inf elsewhere; and the rows with no pair, where there may be any."""
    empty = ~mask.any(-1)
    added = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)
    return added, empty if unknown(empty) or bool(empty.any()) else None


def _per_head(x: Tensor | None, heads: int) -> Tensor | None:
    return x if x is None or x.shape[0] == 1 else x.repeat_interleave(heads, dim=0)
