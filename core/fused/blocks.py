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
def own(table, g, c):
    """The indices of a group and block in a table that they may share."""
    return (g if table.shape[0] > 1 else 0), (c if table.shape[1] > 1 else 0)


@compiled
def mask_place(blocks, g, c, tile, key):
    """Where the lanes of a key begin in the flat mask; -1 without a mask."""
    mask = blocks.mask
    if mask.size == 0:
        return -1
    g, c = own(mask, g, c)
    return (((g * mask.shape[1] + c) * mask.shape[2] + tile) * mask.shape[3] + key) * TILE


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
def places(blocks, g, c, tile, total, into):
    """The rows of a tile among all groups' `total` rows each, -1 after the last one."""
    rows = blocks.rows
    for r in range(TILE):
        row = tile * TILE + r
        into[r] = g * total + rows[c, row] if row < rows.shape[1] else -1
