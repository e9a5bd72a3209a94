"""Tiles follow the variants: whole context, no longer than asked for, nothing passed in vain."""

from __future__ import annotations

import numpy as np
import pytest

from domains.genomics.tile import lay_tiles

LENGTH, TILE, HALO = 5000, 96, 11


@pytest.mark.parametrize("number", [1, 2, 7, 60, 900, LENGTH])
def test_tiles_give_each_position_its_context_and_cost_no_more_than_centred_windows(
    number: int,
) -> None:
    draw = np.random.default_rng(number)
    positions = np.sort(draw.choice(LENGTH, number, replace=False))
    tiles = lay_tiles(positions, LENGTH, TILE, HALO)
    assert [t.first for t in tiles] == [0, *(t.last for t in tiles[:-1])]
    assert tiles[-1].last == number
    for tile in tiles:
        read = positions[tile.first : tile.last]
        assert tile.start == max(0, read[0] - HALO)
        assert tile.end == min(LENGTH, read[-1] + HALO + 1)
        assert tile.end - tile.start <= TILE
    centred = np.minimum(LENGTH, positions + HALO + 1) - np.maximum(0, positions - HALO)
    assert sum(t.end - t.start for t in tiles) <= centred.sum()


def test_neighbours_share_a_tile_and_what_lies_far_has_its_own() -> None:
    near, far = [100, 103, 125], [148, 149]  # a gap of two halos, and of one base more
    tiles = lay_tiles(np.array(near + far), LENGTH, TILE, HALO)
    assert [tuple(t) for t in tiles] == [(89, 137, 0, 3), (137, 161, 3, 5)]
