"""Tiles: the fewest windows that give each wanted position its whole context.

Only positions at least `halo` bases inside a tile, or nearer to an end of the contig, are read
from it. With halo >= the network's reach a score therefore does not depend on where tiles lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from domains.genomics.source import Reference
from domains.genomics.window import Span, Stack, stack_windows

if TYPE_CHECKING:
    from domains.genomics.masked_model import MaskedModule
    from domains.genomics.model import EffectEnsemble, EffectModule

    Network = EffectModule | EffectEnsemble | MaskedModule

TOKENS_A_FORWARD = 16_384
WIDTHS = 64


class Tile(NamedTuple):
    """Window [start, end), and the slice [first, last) of the positions that is read from it."""

    start: int
    end: int
    first: int
    last: int


def lay_tiles(positions: np.ndarray, length: int, tile: int, halo: int) -> list[Tile]:
    """Tiles, at most `tile` long, over sorted positions of one contig.

    A tile ends where the next position is so far away that a tile of its own costs less than the
    bases between: stretches without a position are passed over.
    """
    core = tile - 2 * halo
    ends = np.flatnonzero(np.diff(positions) > 2 * halo) + 1
    tiles = []
    first = 0
    while first < len(positions):
        low = int(positions[first])
        last = int(np.searchsorted(positions, low + core))
        near = int(np.searchsorted(ends, first, side="right"))
        if near < len(ends):
            last = min(last, int(ends[near]))
        high = int(positions[last - 1])
        tiles.append(Tile(max(0, low - halo), min(length, high + 1 + halo), first, last))
        first = last
    return tiles


def tiles_of(module: Network, positions: np.ndarray, length: int, window: int) -> list[Tile]:
    """The tiles of `score_positions` on a contig of that length."""
    reach = module.reach()
    if reach is None:
        return lay_tiles(positions, length, 2 * (window // 2) + 1, window // 2)
    return lay_tiles(positions, length, max(window, 8 * reach), reach)


def score_positions(
    module: Network,
    reference: Reference,
    contig: str,
    positions: np.ndarray,
    window: int,
    stack: Stack = stack_windows,
) -> np.ndarray:
    """float32 [n, 4]: the scores alone of `scores_and_spread`."""
    return scores_and_spread(module, reference, contig, positions, window, stack)[0]


@torch.inference_mode()
def scores_and_spread(
    module: Network,
    reference: Reference,
    contig: str,
    positions: np.ndarray,
    window: int,
    stack: Stack = stack_windows,
) -> tuple[np.ndarray, np.ndarray]:
    """The network's four numbers at each position, and how far its members lie apart there.

    Args:
        positions: sorted unique int64 [n].
        window: tokens a tile at most where the network's reach is bounded (more where the reach
            asks for it); with unbounded reach, tokens of the window centred on each position.
        stack: makes the network's input of windows.

    Returns:
        float32 [n, 4] in model units, one number an alternative base: the mean over members; and
        their standard deviation (by K - 1 of K members; NaN of a single training).
    """
    module.eval()
    tiles = tiles_of(module, positions, len(reference.sequence(contig)), window)
    mean, spread = (np.empty((len(positions), 4), dtype=np.float32) for _ in range(2))
    # What a pattern of unbounded reach is may depend on the width: all its windows have one.
    step = WIDTHS if module.reach() is not None else 2 * (window // 2) + 1
    for group, width in _batches(tiles, step):
        batch = stack(reference, [Span(contig, t.start, t.end) for t in group], width)
        batch = {k: v.to(module.device) for k, v in batch.items() if k != "tokens"}
        each = module.each(batch)
        for out, numbers in ((mean, each.mean(0)), (spread, _deviation(each))):
            scores = numbers.float().cpu().numpy()
            for i, (start, _, first, last) in enumerate(group):
                out[first:last] = scores[i, positions[first:last] - start]
    return mean, spread


def _deviation(each: Tensor) -> Tensor:
    # torch warns of what is plainly undefined: the spread of one.
    return each.float().std(0) if len(each) > 1 else torch.full_like(each[0], torch.nan)


def _batches(tiles: Sequence[Tile], step: int) -> Iterator[tuple[list[Tile], int]]:
    """Tiles of about the same length together, and the width of each batch, a multiple of `step`:
    few widths, so that plans are reused."""
    left = sorted(tiles, key=lambda t: t.start - t.end)  # the longest first
    while left:
        longest = left[0].end - left[0].start
        width = -(-longest // step) * step
        size = max(1, TOKENS_A_FORWARD // width)
        yield left[:size], width
        left = left[size:]
