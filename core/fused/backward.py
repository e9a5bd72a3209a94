"""Attention over blocks, backward: weights again from scores and the merged log-sum-exp (Dao 2023,
arXiv:2307.08691), gradients added where they belong.

Shapes as in `core.fused.forward`.
"""

from __future__ import annotations

import numpy as np

from core.fused.blocks import CHUNK, TILE, across, lanes_at, places, room, slot_of, tiles_of
from core.fused.compiling import compiled, helper
from core.fused.forward import exponential, restrict
from core.fused.lanes import (
    WIDE,
    fma,
    load_wide,
    multiply,
    splat_wide,
    store,
    subtract,
)
from core.fused.products import products


@compiled
def backward(q, k, v, out, lse, grad, dq, dk, dv, blocks, scale, first, last):
    """Adds the gradients of the pairs of `blocks` to dq [G, N, D], dk and dv [G, M, D].

    `out`, `lse` and `grad` are of the whole softmax; the rest is as in `forward`. Units of one
    group add to the same keys, and must not run side by side.
    """
    total, keys, width = q.shape[1], k.shape[1], q.shape[2]
    seen, tells, masks = k.ravel(), v.ravel(), blocks.mask.ravel()
    asks, slopes, outs, levels = q.ravel(), grad.ravel(), out.ravel(), lse.ravel()
    d_asks, d_seen, d_tells = dq.ravel(), dk.ravel(), dv.ravel()
    one = np.float32(1)
    tiles = np.empty((5, width * TILE), np.float32)
    query, slope, sums = tiles[0], tiles[1], tiles[2]  # [D, TILE]
    ask_rows, slope_rows = tiles[3], tiles[4]  # [TILE, D]
    weights, turns = np.empty(CHUNK * TILE, np.float32), np.empty(CHUNK * TILE, np.float32)
    level = np.empty(2 * TILE, np.float32)
    row, at, edges, near = room()
    count, line = blocks.rows.shape[0], blocks.pitch * width
    for unit in range(first, last):
        g, c = unit // count, unit % count
        for tile in range(tiles_of(blocks)):
            places(blocks, g, c, tile, total, width, row, at)
            across(asks, at, width, scale, query)
            across(slopes, at, width, one, slope)
            _rows(asks, at, width, scale, ask_rows)
            _rows(slopes, at, width, one, slope_rows)
            across(outs, at, width, one, sums)
            _levels(levels, row, sums, slope, width, level)
            sums[:] = 0
            for slot in range(blocks.first.shape[2]):
                begin, j, stop, whole = slot_of(blocks, g, c, tile, slot, len(q), keys, edges)
                while j < stop:
                    n = min(CHUNK, stop - j)
                    key = (g * keys + begin + j * blocks.pitch) * width
                    products(
                        seen, key, line, 1, query, 0, TILE, weights, 0, TILE, n, width, TILE, True
                    )
                    products(
                        tells, key, line, 1, slope, 0, TILE, turns, 0, TILE, n, width, TILE, True
                    )
                    place = lanes_at(blocks, g, c, tile, slot, j)
                    restrict(weights, n, j, whole, edges, near, masks, place)
                    _turn(weights, turns, n, level)
                    _fold(weights, n, slope_rows, d_tells, key, line, width)
                    _fold(turns, n, ask_rows, d_seen, key, line, width)
                    products(
                        seen, key, 1, line, turns, 0, TILE, sums, 0, TILE, width, n, TILE, False
                    )
                    j += n
            _add(sums, at, width, scale, d_asks)


@helper
def _fold(weights, n, rows, into, key, line, width):
    """Adds the weighted rows of a tile to each of n keys."""
    products(weights, 0, TILE, 1, rows, 0, width, into, key, line, n, TILE, width, False)


@helper
def _add(sums, at, width, by, into):
    """Adds columns [D, TILE] to the rows of a tile."""
    for r in range(TILE):
        if at[r] >= 0:
            for d in range(width):
                into[at[r] + d] += sums[d * TILE + r] * by


@helper
def _rows(rows, at, width, by, into):
    """Rows of a tile, one after another; 0 after the last."""
    for r in range(TILE):
        for d in range(width):
            into[r * width + d] = rows[at[r] + d] * by if at[r] >= 0 else 0


@helper
def _levels(levels, row, outs, slopes, width, level):
    """Log-sum-exps, then the mean slope of each row [2, TILE]: of outputs and slopes [D, TILE].

    It is summed as `products` sums the slopes of weights, so that both are one number where a row
    has one key, or one that outweighs all others: their difference is what counts.
    """
    for r in range(TILE):
        level[r] = levels[row[r]] if row[r] >= 0 else np.inf
    for half in range(0, TILE, WIDE):
        mean = splat_wide(np.float32(0))
        for d in range(width):
            place = d * TILE + half
            mean = fma(load_wide(outs, place), load_wide(slopes, place), mean)
        store(level, TILE + half, mean)


@helper
def _turn(weights, turns, n, level):
    """Scores become weights, and slopes of weights those of scores."""
    for half in range(0, TILE, WIDE):
        top, mean = load_wide(level, half), load_wide(level, TILE + half)
        for j in range(n):
            at = j * TILE + half
            weight = exponential(subtract(load_wide(weights, at), top))
            store(weights, at, weight)
            store(turns, at, multiply(weight, subtract(load_wide(turns, at), mean)))
