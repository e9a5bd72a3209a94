"""Attention over blocks, forward: one pass over a row's keys with a running maximum (Milakov and
Gimelshein 2018, arXiv:1805.02867), the weighted sum beside it (Dao et al. 2022, arXiv:2205.14135).

Shapes as in `core.fused.blocks`; N queries, M keys, D channels, a multiple of 16.
"""

from __future__ import annotations

import math

import numpy as np

from core.fused.blocks import CHUNK, TILE, across, lanes_at, places, room, slot_of, tiles_of
from core.fused.compiling import compiled, helper
from core.fused.lanes import (
    WIDE,
    add,
    divide,
    exp2_above,
    fma,
    larger,
    load_wide,
    multiply,
    splat_wide,
    store,
    subtract,
    within,
)
from core.fused.products import products

LEAST = np.float32(-125)
LOWEST = np.finfo(np.float32).min
"""Stands for the maximum of no scores."""
LOG2E = np.float32(1.4426950408889634)


@helper
def exponential(x):
    """Of differences of scores, at most 0 but for rounding; 0 of those that float32 cannot hold.

    The differences are taken before they are scaled: a product of a large level would lose what
    tells scores apart.
    """
    return exp2_above(multiply(x, splat_wide(LOG2E)), splat_wide(LEAST))


@compiled
def forward(q, k, v, out, lse, blocks, starts, scale, first, last):
    """Adds the pairs of `blocks` to one softmax in place.

    Args:
        q: [G, N, D], and k, v [G, M, D].
        out: [G, N, D], and lse float64 [G, N], natural logarithms, of what rows found so far.
        starts: whether rows found nothing so far and hold anything.
        scale: of scores.
        first, last: units of work [first, last) out of G * C, block by block of group by group.
    """
    total, keys, width = q.shape[1], k.shape[1], q.shape[2]
    asks, seen, tells = q.ravel(), k.ravel(), v.ravel()
    outs, levels, masks = out.ravel(), lse.ravel(), blocks.mask.ravel()
    query, sums = np.empty(width * TILE, np.float32), np.empty(width * TILE, np.float32)
    scores, state = np.empty(CHUNK * TILE, np.float32), np.empty(2 * TILE, np.float32)
    row, at, edges, near = room()
    count, line = blocks.rows.shape[0], blocks.pitch * width
    for unit in range(first, last):
        g, c = unit // count, unit % count
        for tile in range(tiles_of(blocks)):
            places(blocks, g, c, tile, total, width, row, at)
            across(asks, at, width, scale, query)
            _begin(outs, levels, row, at, width, starts, sums, state)
            for slot in range(blocks.first.shape[2]):
                begin, j, stop, whole = slot_of(blocks, g, c, tile, slot, len(q), keys, edges)
                while j < stop:
                    n = min(CHUNK, stop - j)
                    key = (g * keys + begin + j * blocks.pitch) * width
                    products(
                        seen, key, line, 1, query, 0, TILE, scores, 0, TILE, n, width, TILE, True
                    )
                    place = lanes_at(blocks, g, c, tile, slot, j)
                    restrict(scores, n, j, whole, edges, near, masks, place)
                    _weigh(scores, n, state, sums, width)
                    products(
                        tells, key, 1, line, scores, 0, TILE, sums, 0, TILE, width, n, TILE, False
                    )
                    j += n
            _end(outs, levels, row, at, width, sums, state)


@helper
def _begin(outs, levels, row, at, width, starts, sums, state):
    """What the rows of a tile found so far: sums [D, TILE]; maxima, then totals [2, TILE]."""
    for r in range(TILE):
        found = not starts and row[r] >= 0 and levels[row[r]] != -np.inf
        level = levels[row[r]] if found else np.float64(0)
        state[r] = level if found else LOWEST
        total = np.float32(math.exp(level - state[r])) if found else np.float32(0)
        state[TILE + r] = total
        for d in range(width):
            sums[d * TILE + r] = outs[at[r] + d] * total if found else 0


@helper
def restrict(scores, n, j, whole, edges, near, masks, place):
    """Scores [n, TILE] of keys from number j on are -inf outside a lane's edges and by the mask.

    Keys inside `whole` [low, high) are inside every lane's. `near` float32 [2, TILE] is for the
    edges counted from j, where float32 is exact.
    """
    if whole[0] <= j and j + n <= whole[1] and place < 0:
        return
    for r in range(2 * TILE):
        near[r] = min(max(edges[r] - j, 0), n)
    for half in range(0, TILE, WIDE):
        low, high = load_wide(near, half), load_wide(near, TILE + half)
        for x in range(n):
            at = x * TILE + half
            score = within(load_wide(scores, at), np.float32(x), low, high)
            if place >= 0:
                score = add(score, load_wide(masks, place + at))
            store(scores, at, score)


@helper
def _weigh(scores, n, state, sums, width):
    """Scores [n, TILE] become weights; what was summed before is brought to the new maximum."""
    for half in range(0, TILE, WIDE):
        before = load_wide(state, half)
        top = before
        for j in range(n):
            top = larger(top, load_wide(scores, j * TILE + half))
        shrink = exponential(subtract(before, top))
        mass = splat_wide(np.float32(0))  # of these keys first: long sums lose less in stretches
        for j in range(n):
            weight = exponential(subtract(load_wide(scores, j * TILE + half), top))
            store(scores, j * TILE + half, weight)
            mass = add(mass, weight)
        store(state, half, top)
        store(state, TILE + half, fma(load_wide(state, TILE + half), shrink, mass))
        for d in range(width):
            at = d * TILE + half
            store(sums, at, multiply(load_wide(sums, at), shrink))


@helper
def _end(outs, levels, row, at, width, sums, state):
    """Rows without a key have out 0 and lse -inf, those with NaN among their scores NaN."""
    for half in range(0, TILE, WIDE):
        mass = load_wide(state, TILE + half)
        share = divide(splat_wide(np.float32(1)), mass)
        for d in range(width):
            place = d * TILE + half
            store(sums, place, multiply(load_wide(sums, place), share))
    for r in range(TILE):
        if row[r] >= 0:
            mass = np.float64(state[TILE + r])
            none = mass == 0
            levels[row[r]] = -np.inf if none else state[r] + math.log(mass)
            for d in range(width):
                outs[at[r] + d] = 0 if none else sums[d * TILE + r]
