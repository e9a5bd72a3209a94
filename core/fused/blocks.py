"""Blocks of queries against blocks of keys, as the attention kernels walk them.

Queries are worked on in tiles of TILE, one a lane, so that a tile's scores [keys, TILE] need no
sum across lanes, and keys are read one by one from wherever they lie.

Shapes: B sequences, G batch x head, C blocks, R queries a block, S slots of keys a block, K keys of
a block, T tiles of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.fused.compiling import helper
from core.fused.lanes import WIDE

TILE = 2 * WIDE
CHUNK = 128
"""Keys whose scores with a tile lie in the first cache."""
EVERY = np.iinfo(np.int32).max


class Blocks(NamedTuple):
    """Which pairs a kernel is to work out: keys of the block that are inside the limits of the
    query, and that the mask lets count.

    Attributes:
        rows: int64 [C, R] the queries.
        limits: int32 [B or 1, C, R, 2] the keys [low, high) that a query may see.
        first: int64 [G or 1, C, S] the first key of a slot. What lies before the first key of all
            or after the last is not there: a slot may have no keys.
        size: keys of a slot, `pitch` rows apart.
        taken: keys of a slot that can be there; those are what the mask tells of.
        mask: float32 [G or 1, C or 1, T, K, TILE] added to scores; no number where all count.
    """

    rows: np.ndarray
    limits: np.ndarray
    first: np.ndarray
    size: int
    taken: int
    pitch: int
    mask: np.ndarray


@helper
def room():
    """Memory for the steps of one tile: `row` and `at` of `places`, `edges` of `stretches`, and
    the same as float32."""
    row, at, edges = (
        np.empty(TILE, np.int64),
        np.empty(TILE, np.int64),
        np.empty(2 * TILE, np.int64),
    )
    return row, at, edges, np.empty(2 * TILE, np.float32)


@helper
def tiles_of(blocks):
    """Tiles of a block."""
    return (blocks.rows.shape[1] + TILE - 1) // TILE


@helper
def slot_of(blocks, g, c, tile, slot, groups, total, edges):
    """The keys that a tile of a block looks at in one slot.

    Returns where they begin among a group's `total` keys, the numbers [j, stop) of those that are
    there and that some lane sees, and the numbers [low, high) that every lane sees. `edges` int64
    [2, TILE] is filled with the numbers [low, high) that a lane sees.
    """
    slots, limits = blocks.first, blocks.limits
    first, limits = slots[g % len(slots), c, slot], limits[g * len(limits) // groups, c]
    begin = min(max(first, 0), total - 1 - (blocks.taken - 1) * blocks.pitch)
    ahead = first - begin  # of the first key that is there, where it is not 0
    low, high, all_low, all_high = _edges(limits, tile, begin, blocks.pitch, edges)
    stop = min(high, ahead + blocks.size, blocks.taken)
    return begin, max(low, ahead, 0), stop, (all_low, all_high)


@helper
def lanes_at(blocks, g, c, tile, slot, j):
    """Where the lanes of key number j of a slot begin in the flat mask, -1 without one."""
    mask = blocks.mask
    if not mask.size:
        return -1
    table = (g % mask.shape[0] * mask.shape[1] + c % mask.shape[1]) * mask.shape[2] + tile
    return (table * mask.shape[3] + slot * blocks.taken + j) * TILE


@helper
def _edges(limits, tile, begin, pitch, edges):
    """Fills the edges; the numbers that some lane sees and that all see, [low, high) both."""
    low, high, all_low, all_high = EVERY, 0, 0, EVERY
    for r in range(TILE):
        row = tile * TILE + r
        first, last = 0, 0
        if row < len(limits) and limits[row, 0] < limits[row, 1]:
            # rounded up; an edge before the slot is as good as its begin
            first = (max(limits[row, 0] - begin, 0) + pitch - 1) // pitch
            last = (max(limits[row, 1] - begin, 0) + pitch - 1) // pitch
        if first < last:
            low, high = min(low, first), max(high, last)
        if row < len(limits):
            all_low, all_high = max(all_low, first), min(all_high, last)
        edges[r], edges[TILE + r] = first, last
    return low, high, all_low, all_high


@helper
def across(rows, at, width, by, into):
    """Rows of a block as columns: into[d * TILE + r] = x[r, d] * by, 0 after the last row.

    Args:
        rows: the flat tensor, and `at` [TILE] where its rows begin, below 0 after the last.
        width: numbers of a row.
    """
    for r in range(TILE):
        if at[r] >= 0:
            for d in range(width):
                into[d * TILE + r] = rows[at[r] + d] * by
        else:
            for d in range(width):
                into[d * TILE + r] = 0


@helper
def places(blocks, g, c, tile, total, width, row, at):
    """The rows of a tile among all groups' `total` rows each, and where those of `width` numbers
    begin: below 0 after the last one."""
    rows = blocks.rows
    for r in range(TILE):
        one = tile * TILE + r
        row[r] = g * total + rows[c, one] if one < rows.shape[1] else -1
        at[r] = row[r] * width
