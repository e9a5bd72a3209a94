"""Places of a block as stretches, which the tiled kernel goes along."""

from __future__ import annotations

import pytest
import torch

from core.attention.axes import Pick


@pytest.mark.parametrize(
    "table, stretches, size, pitch",
    [
        ([[5]], 1, 1, 1),
        ([[5, 6, 7, 8]], 1, 4, 1),
        ([[2, 5, 8, 11], [3, 6, 9, 12]], 1, 4, 3),
        ([[1, 2, 3, 11, 12, 13], [4, 5, 6, 9, 10, 11]], 2, 3, 1),
        ([[1, 2, 3, 11, 12, 13], [4, 5, 6, 8, 9, 11]], 6, 1, 1),
        ([[1, 2, 3, 11, 12]], 5, 1, 1),
        ([[7, 7, 7]], 3, 1, 1),
        ([[9, 6, 3]], 3, 1, 1),
        ([[2, 5, -1, -1]], 4, 1, 1),
        ([[-1]], 1, 1, 1),
        ([[-1, 0, 1]], 3, 1, 1),
        ([[-1, 1, 3], [4, 6, 8]], 3, 1, 1),
    ],
)
def test_stretches_hold_the_same_places(
    table: list[list[int]], stretches: int, size: int, pitch: int
) -> None:
    pick = Pick(torch.tensor(table))
    first, found, apart = pick.slots
    assert (first.shape[1], found, apart) == (stretches, size, pitch)
    again = (first[..., None] + apart * torch.arange(found)).flatten(1)
    assert again.tolist() == table


def test_many_single_places_are_scattered() -> None:
    assert Pick(torch.arange(40)[None] ** 2).scattered
    assert not Pick(torch.arange(3)[None] ** 2).scattered
    assert not Pick(torch.arange(0, 400, 7)[None]).scattered
