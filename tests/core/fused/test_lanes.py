"""Eight numbers at once are what one at a time gives."""

from __future__ import annotations

import numpy as np
import pytest

from core.fused import lanes
from core.fused.compiling import compiled
from core.fused.lanes import LANES, load, splat, splat_from, store

PAIRS = {
    lanes.add: np.add,
    lanes.subtract: np.subtract,
    lanes.multiply: np.multiply,
    lanes.divide: np.divide,
    lanes.larger: np.maximum,
    lanes.smaller: np.minimum,
}


@pytest.fixture
def numbers():
    return np.random.default_rng(0).standard_normal((2, LANES)).astype(np.float32)


@pytest.mark.parametrize("operation", PAIRS, ids=lambda o: PAIRS[o].__name__)
def test_pairs(operation, numbers):
    @compiled
    def apply(a, b, out):
        store(out, 0, operation(load(a, 0), load(b, 0)))

    out = np.empty(LANES, np.float32)
    apply(*numbers, out)
    assert out.tolist() == PAIRS[operation](*numbers).tolist()


def test_places_of_an_array(numbers):
    @compiled
    def apply(a, out):
        store(out, 1, load(a, LANES - 1))
        store(out, LANES + 1, lanes.fma(splat_from(a, 3), splat(np.float32(2)), splat_from(a, 4)))

    out = np.zeros(2 * LANES + 2, np.float32)
    flat = numbers.ravel()
    apply(flat, out)
    assert out[1 : LANES + 1].tolist() == flat[LANES - 1 : 2 * LANES - 1].tolist()
    np.testing.assert_allclose(out[LANES + 1 : -1], 2 * flat[3] + flat[4], rtol=1e-6)
    assert out[0] == out[-1] == 0


def test_powers_of_two():
    @compiled
    def apply(x, out):
        store(out, 0, lanes.exp2_above(load(x, 0), splat(np.float32(-60))))

    x = np.array([0, -0.5, -1, -3.3, -59.9, -60, -1e30, -np.inf], np.float32)
    out = np.empty_like(x)
    apply(x, out)
    expected = np.where(x > -60, np.exp2(x.astype(np.float64)), 0)
    np.testing.assert_allclose(out, expected, rtol=5e-7, atol=0)


def test_logarithms_and_roots():
    @compiled
    def apply(x, logarithms, roots):
        for i in range(0, len(x), LANES):
            store(logarithms, i, lanes.log2(load(x, i)))
            store(roots, i, lanes.root(load(x, i)))

    x = np.exp(np.random.default_rng(0).normal(0, 10, 1000 * LANES)).astype(np.float32)
    x[: LANES // 2] = [1, np.nextafter(1, 2, dtype=np.float32), 2, np.sqrt(0.5)]
    logarithms, roots = np.empty_like(x), np.empty_like(x)
    apply(x, logarithms, roots)
    exact = np.log2(x.astype(np.float64))
    np.testing.assert_allclose(logarithms, exact, rtol=3e-7, atol=3e-8)
    np.testing.assert_allclose(roots, np.sqrt(x.astype(np.float64)), rtol=1e-7)


def test_numbers_outside_their_limits_are_left_out(numbers):
    @compiled
    def apply(x, at, low, high, out):
        store(out, 0, lanes.within(load(x, 0), at, load(low, 0), load(high, 0)))

    low, high = np.arange(LANES, dtype=np.float32), np.arange(LANES, dtype=np.float32) + 2
    out = np.empty(LANES, np.float32)
    apply(numbers[0], np.float32(3), low, high, out)
    seen = (low <= 3) & (high > 3)
    assert out.tolist() == np.where(seen, numbers[0], -np.inf).tolist()
