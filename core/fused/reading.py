"""What heads read in windows that are stretches of a memory, without laying the windows out.

The fast twin of `core.model.gathered.GatheredRound`: a slot's label state and age have few features
that are not zero, and those alone are looked at. Wherever LANES is an axis, it is heads.

Shapes: T targets, W slots of a window, R rows of memory, G groups of LANES heads, E key size, C
carried numbers, D width of hidden states.
"""

from __future__ import annotations

import numpy as np

from core.fused.compiling import compiled
from core.fused.lanes import (
    LANES,
    add,
    divide,
    exp2_above,
    fma,
    larger,
    load,
    log2,
    multiply,
    root,
    smaller,
    splat,
    splat_from,
    store,
    subtract,
)
from core.fused.windows import AT_ONCE
from core.model.ages import DAILY, FINE, LAST_DAY
from core.model.gathered import NOTHING
from core.model.landmarks import DEVIATIONS, FEWEST, LEAST_SHARE, NARROWEST, SCORED
from core.model.slots import FEATURES, LOG2E, STATES

VALUES = 8
"""Values that are read together."""
ZERO, ONE, TINY = np.float32(0), np.float32(1), np.float32(1e-30)
LEAST, LOWEST = np.float32(NOTHING), np.float32(-np.inf)
TO_NATURAL = np.float32(1 / LOG2E)


def found_width(size: int, carried: int) -> int:
    """Numbers that a head tells of: mean features and values, carried numbers compared, its
    mass."""
    return FEATURES + size + SCORED * carried + 1


@compiled
def read(query, first, groups, memory, windows, numbers, sink, found, aged):
    """What the heads of one view find.

    Args:
        query: [T, all groups, E + FEATURES, LANES]; the view's begin with group `first`.
        groups: of the view.
        memory: [R, E + E + C] keys, values and carried numbers.
        numbers: [T, C] of the targets.
        sink: [all groups, LANES] scores, binary logarithms as all are here.
        found: [T, all groups, `found_width`, LANES], filled for the groups of the view.
        aged: [T, all groups, 2, LANES] likewise: mean age and gate.
    """
    targets, slots = windows.row.shape
    size, wide, carried = query.shape[2] - FEATURES, memory.shape[1], numbers.shape[1]
    rows, asks, finds = memory.ravel(), query.ravel(), found.ravel()
    sinks, ages = sink.ravel(), aged.ravel()
    score = np.empty(slots * LANES, np.float32)
    others = np.empty((1 + 2 * carried) * LANES, np.float32)
    for i in range(targets):
        for group in range(first, first + groups):
            at = i * query.shape[1] + group
            q, f = at * query.shape[2] * LANES, at * found.shape[2] * LANES
            top = _score(asks, q, rows, wide, size, windows, i, score)
            total = _features(score, top, windows, i, finds, f)
            _values(score, rows, wide, size, windows, i, finds, f + FEATURES * LANES)
            _others(score, rows, wide, 2 * size, numbers, windows, i, others)
            mass = add(top, log2(total))
            gate = _sigmoid(subtract(mass, load(sinks, group * LANES)))
            told = FEATURES + size
            age = load(finds, f + (FEATURES - 1) * LANES)
            store(ages, 2 * at * LANES, divide(age, total))
            store(ages, (2 * at + 1) * LANES, gate)
            _scale(finds, f, told, divide(gate, total))
            _compare(others, carried, total, gate, finds, f + told * LANES)
            store(finds, f + (told + SCORED * carried) * LANES, multiply(mass, splat(TO_NATURAL)))


@compiled
def _sigmoid(x):
    """Of binary log-odds."""
    most, least = splat(np.float32(-NOTHING)), splat(np.float32(2 * NOTHING))
    odds = exp2_above(smaller(subtract(splat(ZERO), x), most), least)
    return divide(splat(ONE), add(splat(ONE), odds))


@compiled
def _scale(finds, f, count, by):
    for k in range(count):
        store(finds, f + k * LANES, multiply(load(finds, f + k * LANES), by))


@compiled
def _compare(others, carried, total, gate, finds, f):
    """As `core.model.landmarks.against_others`, times the gate."""
    share = divide(load(others, 0), total)
    least = multiply(total, larger(share, splat(np.float32(LEAST_SHARE))))
    told = multiply(smaller(divide(share, splat(np.float32(FEWEST))), splat(ONE)), gate)
    zero, one = splat(ZERO), splat(ONE)
    for c in range(carried):
        mean = divide(load(others, (1 + c) * LANES), least)
        square = divide(load(others, (1 + carried + c) * LANES), least)
        spread = larger(subtract(square, multiply(mean, mean)), zero)
        spread = root(add(spread, splat(np.float32(NARROWEST**2))))
        deviation = _asinh(divide(mean, spread))
        store(finds, f + c * LANES, multiply(mean, told))
        place = f + (carried + c * (SCORED - 1)) * LANES
        for k in range(SCORED - 1):
            step = subtract(deviation, splat(np.float32(DEVIATIONS[k])))
            step = divide(step, splat(np.float32(DEVIATIONS[k + 1] - DEVIATIONS[k])))
            step = smaller(larger(step, zero), one)
            store(finds, place + k * LANES, multiply(step, told))


@compiled
def _asinh(x):
    size = larger(x, subtract(splat(ZERO), x))
    grown = log2(add(size, root(fma(size, size, splat(ONE)))))
    sign = divide(x, larger(size, splat(TINY)))
    return multiply(multiply(grown, splat(TO_NATURAL)), sign)


@compiled
def tell_ages(aged, daily, told):
    """Adds what mean ages tell day by day.

    Args:
        aged: [T, G, 2, LANES] mean ages and gates.
        daily: [G * LANES, DAYS, D] what a head tells of each of `core.model.ages.DAILY`.
        told: [T, D].
    """
    targets, groups, _, _ = aged.shape
    width = told.shape[1]
    table, tells = daily.ravel(), told.ravel()
    for i in range(targets):
        for group in range(groups):
            for lane in range(LANES):
                place = min(max(aged[i, group, 0, lane], ZERO), np.float32(LAST_DAY))
                for k in range(LAST_DAY, len(DAILY) - 1):
                    apart = np.float32(DAILY[k + 1] - DAILY[k])
                    beyond = (aged[i, group, 0, lane] - np.float32(DAILY[k])) / apart
                    place += min(max(beyond, ZERO), ONE)
                left = min(int(place), len(DAILY) - 2)
                gate, part = aged[i, group, 1, lane], place - np.float32(left)
                row = ((group * LANES + lane) * len(DAILY) + left) * width
                near, far = gate * (ONE - part), gate * part
                _add_rows(table, row, near, row + width, far, tells, i * width, width)


@compiled
def _add_rows(table, a, near, b, far, into, at, width):
    whole = width // LANES * LANES
    for d in range(0, whole, LANES):
        found = fma(splat(near), load(table, a + d), load(into, at + d))
        store(into, at + d, fma(splat(far), load(table, b + d), found))
    for d in range(whole, width):
        into[at + d] += near * table[a + d] + far * table[b + d]


@compiled
def _score(asks, q, rows, wide, size, windows, i, score):
    """Binary scores of a target's slots; returns the largest of each head."""
    slots = windows.row.shape[1]
    begin = slots - windows.have[i]
    top, nothing, zero = splat(LOWEST), splat(LOWEST), splat(ZERO)
    fine = q + (size + FEATURES - FINE) * LANES
    recent, late = load(asks, fine), load(asks, fine + LANES)
    age = load(asks, fine + 2 * LANES)
    dated = q + size * LANES
    for j in range(begin // AT_ONCE * AT_ONCE, slots, AT_ONCE):
        a, b, c, d = zero, zero, zero, zero
        ra, rb = windows.row[i, j] * wide, windows.row[i, j + 1] * wide
        rc, rd = windows.row[i, j + 2] * wide, windows.row[i, j + 3] * wide
        for e in range(size):
            ask = load(asks, q + e * LANES)
            a = fma(ask, splat_from(rows, ra + e), a)
            b = fma(ask, splat_from(rows, rb + e), b)
            c = fma(ask, splat_from(rows, rc + e), c)
            d = fma(ask, splat_from(rows, rd + e), d)
        # Ages are large and come last: what is added to a large sum is rounded as it is.
        a = _dated(a, asks, dated, windows, i, j, recent, late, age)
        b = _dated(b, asks, dated, windows, i, j + 1, recent, late, age)
        c = _dated(c, asks, dated, windows, i, j + 2, recent, late, age)
        d = _dated(d, asks, dated, windows, i, j + 3, recent, late, age)
        if j < begin:
            a = nothing
            b = nothing if j + 1 < begin else b
            c = nothing if j + 2 < begin else c
        store(score, j * LANES, a)
        store(score, (j + 1) * LANES, b)
        store(score, (j + 2) * LANES, c)
        store(score, (j + 3) * LANES, d)
        top = larger(top, larger(larger(a, b), larger(c, d)))
    return top


@compiled
def _dated(found, asks, q, windows, i, j, recent, late, age):
    """Adds what a slot scores by its label state and age."""
    found = add(found, load(asks, q + windows.state[i, j] * LANES))
    knot, part = q + (STATES + windows.left[i, j]) * LANES, windows.part[i, j]
    found = fma(load(asks, knot), splat(ONE - part), found)
    found = fma(load(asks, knot + LANES), splat(part), found)
    found = fma(recent, splat(windows.recent[i, j]), found)
    found = fma(late, splat(windows.late[i, j]), found)
    return fma(age, splat(windows.age[i, j]), found)


@compiled
def _features(score, top, windows, i, finds, f):
    """Scores become weights; returns their sum. Sums of features go to `finds`."""
    slots = windows.row.shape[1]
    zero, least = splat(ZERO), splat(LEAST)
    for k in range(FEATURES):
        store(finds, f + k * LANES, zero)
    total, recent, late, age = zero, zero, zero, zero
    for j in range(slots - windows.have[i], slots):
        weight = exp2_above(subtract(load(score, j * LANES), top), least)
        store(score, j * LANES, weight)
        total = add(total, weight)
        state = f + windows.state[i, j] * LANES
        store(finds, state, add(load(finds, state), weight))
        knot, part = f + (STATES + windows.left[i, j]) * LANES, windows.part[i, j]
        store(finds, knot, fma(weight, splat(ONE - part), load(finds, knot)))
        knot += LANES
        store(finds, knot, fma(weight, splat(part), load(finds, knot)))
        recent = fma(weight, splat(windows.recent[i, j]), recent)
        late = fma(weight, splat(windows.late[i, j]), late)
        age = fma(weight, splat(windows.age[i, j]), age)
    fine = f + (FEATURES - FINE) * LANES
    store(finds, fine, recent)
    store(finds, fine + LANES, late)
    store(finds, fine + 2 * LANES, age)
    return total


@compiled
def _values(score, rows, wide, size, windows, i, finds, f):
    """Sums of values, which begin at `size` in a row of memory."""
    slots = windows.row.shape[1]
    begin, zero = slots - windows.have[i], splat(ZERO)
    whole = size // VALUES * VALUES
    for e in range(0, whole, VALUES):
        s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(begin, slots):
            weight, r = load(score, j * LANES), windows.row[i, j] * wide + size + e
            s0 = fma(weight, splat_from(rows, r), s0)
            s1 = fma(weight, splat_from(rows, r + 1), s1)
            s2 = fma(weight, splat_from(rows, r + 2), s2)
            s3 = fma(weight, splat_from(rows, r + 3), s3)
            s4 = fma(weight, splat_from(rows, r + 4), s4)
            s5 = fma(weight, splat_from(rows, r + 5), s5)
            s6 = fma(weight, splat_from(rows, r + 6), s6)
            s7 = fma(weight, splat_from(rows, r + 7), s7)
        for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
            store(finds, f + (e + k) * LANES, s)
    for e in range(whole, size):
        s0 = zero
        for j in range(begin, slots):
            r = windows.row[i, j] * wide + size + e
            s0 = fma(load(score, j * LANES), splat_from(rows, r), s0)
        store(finds, f + e * LANES, s0)


@compiled
def _others(score, rows, wide, first, numbers, windows, i, found):
    """Of the other events: their weights, how far the target's carried numbers lie beyond theirs,
    which begin at `first` in a row of memory, and the squares of that, as sums by weight."""
    slots, carried = windows.row.shape[1], numbers.shape[1]
    begin, zero = slots - windows.have[i], splat(ZERO)
    total = zero
    for j in range(begin, slots - 1):
        total = add(total, load(score, j * LANES))
    store(found, 0, total)
    for c in range(carried):
        mean, square = zero, zero
        for j in range(begin, slots - 1):
            beyond = numbers[i, c] - rows[windows.row[i, j] * wide + first + c]
            weighed = splat(beyond)
            mean = fma(load(score, j * LANES), weighed, mean)
            square = fma(load(score, j * LANES), splat(beyond * beyond), square)
        store(found, (1 + c) * LANES, mean)
        store(found, (1 + carried + c) * LANES, square)
