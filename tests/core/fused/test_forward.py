"""Steps of the attention kernel that its results show at no size a test can have."""

from __future__ import annotations

import numpy as np

from core.fused.blocks import TILE
from core.fused.forward import restrict


def test_limits_beyond_sixteen_million_keys_are_exact() -> None:
    """From 2^24 on float32 knows no odd numbers."""
    first, keys = (1 << 24) + 1, TILE + 3
    edges = np.concatenate([np.arange(TILE) // 3, np.arange(TILE) + 1]) + first
    scores, near = np.zeros(keys * TILE, np.float32), np.empty(2 * TILE, np.float32)
    whole = (first + TILE // 3, first)  # no key is inside every lane's
    restrict(scores, keys, first, whole, edges, near, np.empty(0, np.float32), -1)
    key, lane = np.arange(keys)[:, None], np.arange(TILE)
    seen = (key >= lane // 3) & (key <= lane)
    assert np.array_equal(scores.reshape(keys, TILE), np.where(seen, 0, -np.inf))
