"""Tiles: the fewest windows that give each wanted position its whole context.

Only positions at least `halo` bases inside a tile, or nearer to an end of the contig, are read
from it. With halo >= the network's reach a score therefore does not depend on where tiles lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from domains.genomics.source import Reference
from domains.genomics.window import Span, stack_windows

if TYPE_CHECKING:
    from domains.genomics.model import EffectEnsemble, EffectModule

TOKENS_A_FORWARD = 16_384


def lay_tiles(
    positions: np.ndarray, length: int, tile: int, halo: int
) -> list[tuple[int, int, int, int]]:
    """Tiles over sorted positions of one contig; stretches without a position are passed over.

    Returns:
        (start, end, first, last): window [start, end), and the slice [first, last) of `positions`
        that is read from it.
    """
    core = tile - 2 * halo
    tiles = []
    first = 0
    while first < len(positions):
        low = int(positions[first])
        last = int(np.searchsorted(positions, low + core))
        tiles.append((max(0, low - halo), min(length, low + core + halo), first, last))
        first = last
    return tiles


def score_positions(
    module: EffectModule | EffectEnsemble,
    reference: Reference,
    contig: str,
    positions: np.ndarray,
    window: int,
) -> np.ndarray:
    """float32 [n, 4]: the scores alone of `scores_and_spread`."""
    return scores_and_spread(module, reference, contig, positions, window)[0]


@torch.inference_mode()
def scores_and_spread(
    module: EffectModule | EffectEnsemble,
    reference: Reference,
    contig: str,
    positions: np.ndarray,
    window: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The network's four numbers at each position, and how far its members lie apart there.

    Args:
        positions: sorted unique int64 [n].
        window: tokens a tile where the network's reach is bounded (longer where the reach asks for
            it); with unbounded reach, tokens of the window centred on each position.

    Returns:
        float32 [n, 4] in model units, one number an alternative base: the mean over members; and
        their standard deviation (by K - 1 of K members; NaN of a single training).
    """
    module.eval()
    reach = module.reach()
    if reach is None:
        halo, tile = window // 2, 2 * (window // 2) + 1
    else:
        halo, tile = reach, max(window, 8 * reach)
    tiles = lay_tiles(positions, len(reference.sequence(contig)), tile, halo)
    mean, spread = (np.empty((len(positions), 4), dtype=np.float32) for _ in range(2))
    for group in _batches(tiles, max(1, TOKENS_A_FORWARD // tile)):
        spans = [Span(contig, start, end) for start, end, _, _ in group]
        # One width for all tiles of a length class: compiled and cached plans are reused.
        width = max(span.end - span.start for span in spans)
        batch = stack_windows(reference, spans, width)
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


def _batches(
    tiles: Sequence[tuple[int, int, int, int]], size: int
) -> list[Sequence[tuple[int, int, int, int]]]:
    return [tiles[i : i + size] for i in range(0, len(tiles), size)]
