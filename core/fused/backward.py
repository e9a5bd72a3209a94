"""Attention over blocks, backward: weights again from scores and the merged log-sum-exp (Dao 2023,
arXiv:2307.08691), gradients added where they belong.

Shapes as in `core.fused.forward`.
"""

from __future__ import annotations

import numpy as np

from core.fused.blocks import LOG2E, TILE, across, mask_place, own, places
from core.fused.compiling import compiled
from core.fused.forward import LEAST
from core.fused.lanes import (
    WIDE,
    add,
    exp2_above,
    load_wide,
    multiply,
    splat_wide,
    store,
    subtract,
)
from core.fused.products import products

CHUNK = 128
"""Keys whose weights and slopes lie in the first cache."""


@compiled
def backward(q, k, v, out, lse, grad, dq, dk, dv, blocks, scale, first, last):
    """Adds the gradients of the pairs of `blocks` to dq [G, N, D], dk and dv [G, M, D].

    `out`, `lse` and `grad` are of the whole softmax; the rest is as in `forward`. Units of one
    group add to the same keys, and must not run side by side.
    """
    total, keys, width = q.shape[1], k.shape[1], q.shape[2]
    seen, tells, masks = k.ravel(), v.ravel(), blocks.mask.ravel()
    d_seen, d_tells, d_asks = dk.ravel(), dv.ravel(), dq.ravel()
    tile_of = np.empty((5, width * TILE), np.float32)
    query, slope, sums = tile_of[0], tile_of[1], tile_of[2]  # [D, TILE]
    asks, slopes = tile_of[3], tile_of[4]  # [TILE, D]
    weights, turns = np.empty(CHUNK * TILE, np.float32), np.empty(CHUNK * TILE, np.float32)
    level = np.empty(2 * TILE, np.float32)
    row, at = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    count, size, pitch = blocks.rows.shape[0], blocks.size, blocks.pitch
    line = pitch * width
    for unit in range(first, last):
        g, c = unit // count, unit % count
        slots_of, spans_of = own(blocks.first, g, c), own(blocks.spans, g, c)
        slots, spans = blocks.first[slots_of], blocks.spans[spans_of]
        for tile in range(spans.shape[0]):
            places(blocks, g, c, tile, total, row)
            for r in range(TILE):
                at[r] = row[r] * width
            across(q.ravel(), at, width, scale * LOG2E, query)
            across(grad.ravel(), at, width, np.float32(1), slope)
            _rows(q.ravel(), at, width, scale, asks)
            _rows(grad.ravel(), at, width, np.float32(1), slopes)
            _levels(out.ravel(), lse.ravel(), row, at, width, slopes, level)
            sums[:] = 0
            for slot in range(len(slots)):
                if slots[slot] < 0:
                    continue
                j = max(spans[tile, 0] - slot * size, 0)
                stop = min(spans[tile, 1] - slot * size, size)
                while j < stop:
                    n = min(CHUNK, stop - j)
                    key = (g * keys + slots[slot] + j * pitch) * width
                    products(
                        seen, key, line, 1, query, 0, TILE, weights, 0, TILE, n, width, TILE, True
                    )
                    products(
                        tells, key, line, 1, slope, 0, TILE, turns, 0, TILE, n, width, TILE, True
                    )
                    place = mask_place(blocks, g, c, tile, slot * size + j)
                    _turn(weights, turns, n, masks, place, level)
                    products(
                        weights, 0, TILE, 1, slopes, 0, width, d_tells, key, line, n, TILE, width,
                        False,
                    )  # fmt: skip
                    products(
                        turns, 0, TILE, 1, asks, 0, width, d_seen, key, line, n, TILE, width, False
                    )
                    products(
                        seen, key, 1, line, turns, 0, TILE, sums, 0, TILE, width, n, TILE, False
                    )
                    j += n
            for r in range(TILE):
                if row[r] >= 0:
                    for d in range(width):
                        d_asks[at[r] + d] += sums[d * TILE + r] * scale


@compiled
def _rows(rows, at, width, by, into):
    """Rows of a tile, one after another; 0 after the last."""
    for r in range(TILE):
        for d in range(width):
            into[r * width + d] = rows[at[r] + d] * by if at[r] >= 0 else 0


@compiled
def _levels(outs, levels, row, at, width, slopes, level):
    """Log-sum-exps in binary logarithms, then the mean slope of each row [2, TILE]."""
    for r in range(TILE):
        level[r] = levels[row[r]] * LOG2E if row[r] >= 0 else np.inf
        mean = np.float32(0)
        if row[r] >= 0:
            for d in range(width):
                mean += outs[at[r] + d] * slopes[r * width + d]
        level[TILE + r] = mean


@compiled
def _turn(weights, turns, n, masks, place, level):
    """Scores become weights, and slopes of weights those of scores."""
    least = splat_wide(LEAST)
    for half in range(0, TILE, WIDE):
        top, mean = load_wide(level, half), load_wide(level, TILE + half)
        for j in range(n):
            at = j * TILE + half
            score = load_wide(weights, at)
            if place >= 0:
                score = add(score, load_wide(masks, place + at))
            weight = exp2_above(subtract(score, top), least)
            store(weights, at, weight)
            store(turns, at, multiply(weight, subtract(load_wide(turns, at), mean)))
