"""Parts of a plan by the compiled kernels of `core.fused`: float32 on CPU.

A kernel reads keys where they lie, whatever the pitch of a residue class and wherever a drawn
block begins, and looks only at the keys that a tile of queries has. So parts need no copies, no
pieces that fit in a cache and no sums of overlapping blocks. Threads share out the heads of all
sequences; where there are fewer heads than threads, the blocks of a part.

Shape suffixes: G batch x head, N rows, C blocks, R rows a block, K keys a block, T tiles of a
block, D head size.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention.axes import KeyBlocks, Pick, Run, Slots
from core.attention.backends.pieces import Piece
from core.attention.backends.state import State
from core.attention.parts import Part
from core.attention.static import lasting
from core.fused.backward import backward
from core.fused.blocks import CHUNK, TILE, Blocks
from core.fused.forward import forward

_STRIPES = 4  # of a head's blocks in the backward, each with gradients of its own
_SMALL = 1 << 21  # multiplications that a second thread is not worth
_UNEVEN = 4  # heads a thread from which one more or less matters little

Units = tuple[int, int]


def tiled_forward(
    pieces: Sequence[Piece], qkv: Sequence[Tensor], out: Tensor, lse: Tensor, scale: float
) -> None:
    """Adds pieces to out [G, N, D] and lse [G, N] in place, one after another."""
    q, k, v = qkv
    if not len(q):
        return
    number, blocks = np.float32(scale), {piece: blocks_of(piece) for piece in pieces}

    def work(piece: Piece, units: Units) -> None:
        arrays = (x[piece.groups].numpy() for x in (q, k, v, out, lse))
        forward(*arrays, blocks[piece], piece.part.starts, number, *units)

    threads = _threads(pieces, q)
    if len(q) % threads == 0 or len(q) >= _UNEVEN * threads:
        _side_by_side(_by_groups(work, pieces, len(q), threads))
        return
    for piece in pieces:
        units = len(q[piece.groups]) * piece.part.count
        _side_by_side(
            functools.partial(work, piece, some) for some in _ranges(units, min(threads, units))
        )


def tiled_backward(
    pieces: Sequence[Piece], state: State, totals: tuple[Tensor, Tensor, Tensor], scale: float
) -> None:
    """Adds the gradients of pieces to (dq, dk, dv), all [G, N, D]."""
    if not len(state.q):
        return
    number, threads = np.float32(scale), _threads(pieces, state.q)
    blocks = {piece: blocks_of(piece) for piece in pieces}
    dq, dk, dv = totals
    stripes = min(_STRIPES, max(1, threads // len(state.q)))
    parts = [(dk, dv), *((torch.zeros_like(dk), torch.zeros_like(dv)) for _ in range(stripes - 1))]

    def work(piece: Piece, units: Units, stripe: int = 0) -> None:
        arrays = (x[piece.groups].numpy() for x in (*state, dq, *parts[stripe]))
        backward(*arrays, blocks[piece], number, *units)

    if stripes == 1:
        _side_by_side(_by_groups(work, pieces, len(state.q), threads))
        return
    for piece in pieces:
        _side_by_side(
            functools.partial(work, piece, (first + at, first + to), stripe)
            for first in range(0, len(state.q[piece.groups]) * piece.part.count, piece.part.count)
            for stripe, (at, to) in enumerate(_ranges(piece.part.count, stripes))
        )
    for some in parts[1:]:
        for total, found in zip((dk, dv), some, strict=True):
            total.add_(found)


def blocks_of(piece: Piece) -> Blocks:
    """What a kernel needs to know of a piece; kept with it, but for the bounds of a call."""
    if "blocks" not in piece.derived:
        with lasting():
            piece.derived["blocks"] = _blocks(piece)
    blocks: Blocks = piece.derived["blocks"]
    if piece.bounds is None:
        return blocks
    bound = piece.part.rows.take(piece.bounds)
    low, high = torch.from_numpy(blocks.limits).unbind(-1)
    low, high = torch.maximum(low, bound[..., 0]), torch.minimum(high, bound[..., 1])
    return blocks._replace(limits=torch.stack((low, high), -1).numpy())


def _blocks(piece: Piece) -> Blocks:
    rows, cols = piece.part.rows.index().long(), piece.part.cols
    if isinstance(cols, Run):
        first = cols.start + cols.step * torch.arange(cols.count)[None, :, None]
        size, taken, pitch = cols.width, cols.width, cols.pitch
    elif isinstance(cols, Pick):
        first, size, pitch = cols.slots
        first, taken = first[None], size
    else:
        assert isinstance(cols, KeyBlocks)
        first = cols.first if cols.first.ndim == 3 else cols.first[None]
        size, taken, pitch = cols.size, cols.taken, 1
    limits = torch.stack(piece.part.interval(rows.int()), -1)[None]
    mask = torch.empty(0, 0, 0, 0, 0)
    if piece.mask is not None:
        mask = _lanes(piece.mask, rows.shape[1])
    rows, limits, first, mask = (x.contiguous().numpy() for x in (rows, limits, first, mask))
    return Blocks(rows, limits, first, size, taken, pitch, mask)


def _lanes(mask_GCRK: Tensor, rows: int) -> Tensor:
    """[G, C, T, K, TILE]; lanes after the last row see nothing."""
    groups, blocks, _, keys = mask_GCRK.shape
    tiles = -(-rows // TILE)
    mask = mask_GCRK.expand(groups, blocks, rows, keys)
    mask = F.pad(mask, (0, 0, 0, tiles * TILE - rows), value=-torch.inf)
    return mask.unflatten(2, (tiles, TILE)).transpose(-1, -2).contiguous()


def looked_at(part: Part) -> tuple[int, int]:
    """How many keys the tiles of a part look at, and in how many stretches, all tiles together."""
    tiles = -(-part.rows.width // TILE)
    if isinstance(part.cols, Run):
        some = part.blocks(0, 1) if part.alike else part
        low, high = some.seen()
        low, high = _tiled(low, torch.iinfo(low.dtype).max, tiles), _tiled(high, 0, tiles)
        keys = (high.amax(-1) - low.amin(-1)).clamp_min(0) // part.cols.pitch
        times = part.count // some.count
        return times * int(keys.sum()), times * int((-(-keys // CHUNK)).sum())
    if isinstance(part.cols, KeyBlocks):
        slots, size = int((part.cols.first != KeyBlocks.ABSENT).sum()), part.cols.taken
    elif isinstance(part.cols, Slots):
        slots, size = part.count * part.cols.slots, part.cols.size
    else:
        assert isinstance(part.cols, Pick)
        first, size, _ = part.cols.slots
        slots = first.numel()
    return slots * tiles * size, slots * tiles * -(-size // CHUNK)


def _tiled(x_CR: Tensor, padding: int, tiles: int) -> Tensor:
    """[C, T, TILE]"""
    x = F.pad(x_CR, (0, tiles * TILE - x_CR.shape[1]), value=padding)
    return x.unflatten(1, (tiles, TILE))


def _threads(pieces: Sequence[Piece], q_GND: Tensor) -> int:
    work = q_GND.shape[0] * q_GND.shape[2] * sum(piece.part.area() for piece in pieces)
    return torch.get_num_threads() if work >= _SMALL else 1


def _by_groups(
    work: Callable[[Piece, Units], None], pieces: Sequence[Piece], groups: int, threads: int
) -> Iterator[Callable[[], None]]:
    """Every thread goes through all pieces with heads of its own."""

    def share(first: int, last: int) -> None:
        for piece in pieces:
            begin, end, _ = piece.groups.indices(groups)
            some = range(max(first, begin) - begin, min(last, end) - begin)
            if some:
                work(piece, (some.start * piece.part.count, some.stop * piece.part.count))

    for first, last in _ranges(groups, min(threads, groups)):
        yield functools.partial(share, first, last)


def _ranges(total: int, shares: int) -> list[Units]:
    return list(pairwise(total * at // shares for at in range(shares + 1)))


def _side_by_side(tasks: Iterable[Callable[[], None]]) -> None:
    """The first in this thread, the rest in others; raises what a task raised."""
    first, *rest = tasks
    running: list[Future[None]] = [_pool().submit(task) for task in rest]
    try:
        first()
    finally:  # nobody writes any more when this returns
        wait(running)
    for one in running:
        one.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), "attention")


if hasattr(os, "register_at_fork"):  # threads don't survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
