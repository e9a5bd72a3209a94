"""Blocks of queries against blocks of keys, as the attention kernels walk them.

Queries are worked on in tiles of TILE, one a lane, so that a tile's scores [keys, TILE] need no
sum across lanes, and keys are read one by one from wherever they lie.

Shapes: G batch x head, C blocks, R queries a block, S slots of keys a block, K keys of a block,
T tiles of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.fused.compiling import compiled
from core.fused.lanes import WIDE

TILE = 2 * WIDE
CHUNK = 128
"""Keys whose scores with a tile lie in the first cache."""
LOG2E = np.float32(1.4426950408889634)


class Blocks(NamedTuple):
    """Which pairs a kernel is to work out.

    Attributes:
        rows: int64 [C, R] the queries.
        first: int64 [G or 1, C, S] the first key of a slot, -1 for a slot without any.
        size: keys of a slot, `pitch` rows apart.
        mask: float32 [G or 1, C or 1, T, K, TILE] added to scores; no number where all count.
        spans: int64 [G or 1, C or 1, T, 2] the keys [low, high) of a block that a tile looks at.
    """

    rows: np.ndarray
    first: np.ndarray
    size: int
    pitch: int
    mask: np.ndarray
    spans: np.ndarray


@compiled
def stretches(blocks, g, c, tile, total):
    """Stretches of keys that a tile of a block looks at, CHUNK or fewer each.

    Yields the first key's row among all groups' `total` each, the number of keys, and where their
    lanes begin in the flat mask, -1 without a mask.
    """
    slots, (low, high) = _own(blocks.first, g, c), _own(blocks.spans, g, c)[tile]
    size, mask = blocks.size, blocks.mask
    for slot in range(len(slots)):
        j = max(low - slot * size, 0)
        stop = min(high - slot * size, size) if slots[slot] >= 0 else 0
        while j < stop:
            n = min(CHUNK, stop - j)
            place = -1
            if mask.size:
                of_g, of_c = g % mask.shape[0], c % mask.shape[1]
                table = (of_g * mask.shape[1] + of_c) * mask.shape[2] + tile
                place = (table * mask.shape[3] + slot * size + j) * TILE
            yield g * total + slots[slot] + j * blocks.pitch, n, place
            j += n


@compiled
def _own(table, g, c):
    """What a group and block have in a table that all groups or all blocks may share."""
    return table[g % table.shape[0], c % table.shape[1]]


@compiled
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


@compiled
def places(blocks, g, c, tile, total, width, row, at):
    """The rows of a tile among all groups' `total` rows each, and where those of `width` numbers
    begin: below 0 after the last one."""
    rows = blocks.rows
    for r in range(TILE):
        one = tile * TILE + r
        row[r] = g * total + rows[c, one] if one < rows.shape[1] else -1
        at[r] = row[r] * width
