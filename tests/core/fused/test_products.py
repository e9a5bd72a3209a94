"""Small matrix products are numpy's, in every size and order of memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from core.fused.lanes import WIDE
from core.fused.products import TALL, products

SIZES = list(itertools.product((1, TALL - 1, TALL, 2 * TALL + 3), (1, 2, 33), (1, 2, 3, 4)))


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("count", "steps", "vectors"), SIZES)
def test_products(count: int, steps: int, vectors: int, fresh: bool) -> None:
    generator = np.random.default_rng(0)
    wide = vectors * WIDE
    a = generator.standard_normal((count, steps), np.float32)
    b, c = (generator.standard_normal((rows, wide + 5), np.float32) for rows in (steps, count))
    expected = c.astype(np.float64)
    expected[:, 2 : 2 + wide] *= not fresh
    expected[:, 2 : 2 + wide] += a.astype(np.float64) @ b[:, 3 : 3 + wide]
    before = c.copy()
    for row, step, flat in ((steps, 1, a.ravel()), (1, count, a.T.ravel())):
        c[:] = before
        into = c.ravel()
        products(
            flat, 0, row, step, b.ravel(), 3, wide + 5, into, 2, wide + 5, count, steps, wide, fresh
        )
        np.testing.assert_allclose(into.reshape(c.shape), expected, rtol=1e-4, atol=1e-5)
        outside = np.r_[0:2, 2 + wide : wide + 5]
        assert np.array_equal(into.reshape(c.shape)[:, outside], before[:, outside])


def test_numbers_of_the_first_begin_where_they_are_said_to() -> None:
    a, b, c = np.arange(9, dtype=np.float32), np.ones(WIDE, np.float32), np.zeros(WIDE, np.float32)
    products(a, 5, 1, 1, b, 0, 0, c, 0, WIDE, 1, 3, WIDE, True)
    assert c.tolist() == [5 + 6 + 7] * WIDE
