"""Batches as the other strand reads them, so that a score can be the mean of both readings.

`Piece.opposite` (`edited`) is the same of one stretch.

Shapes: B windows, N positions, C channels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from domains.genomics.channel import opposite_channels
from domains.genomics.codon import opposite_sites
from domains.genomics.strand_reader import complement

_OF_ALTERNATIVES = ("label", "weight")  # [B, N, 4]


def other_strand(batch: dict[str, Any]) -> dict[str, Any]:
    """What `stack_windows` would give of the same windows of the reverse complement: genes change
    strand, a track's values stay. Padding stays behind. Labels of alternatives come along.

    Its own inverse.
    """
    order = reading_order(batch["real"])
    base, site, channel = (_along(batch[name], order) for name in ("base", "site", "channel"))
    turned: dict[str, Any] = {
        "base": complement(base),
        "site": _other_sites(site.device)[site],
        "channel": channel[..., opposite_channels(channel.shape[-1])],
        "real": batch["real"],
    }
    if "fact" in batch:  # told in the direction of reading already
        turned["fact"] = _along(batch["fact"], order)
        turned["change"] = _along(batch["change"], order).flip(2)
    for name in _OF_ALTERNATIVES:
        if name in batch:
            turned[name] = back(batch[name], order)
    return turned


def reading_order(real: Tensor) -> Tensor:
    """int64 [B, N]: which position comes where on the other strand; `real` bool [B, N], False on
    padding, which is at the end."""
    count, places = real.sum(1, keepdim=True), torch.arange(real.shape[1], device=real.device)
    return (count - 1 - places) % real.shape[1]


def back(numbers: Tensor, order: Tensor) -> Tensor:
    """Numbers of the four alternatives A C G T, [B, N, 4], of one strand as those of the other."""
    return _along(numbers, order).flip(2)


def _along(x: Tensor, order: Tensor) -> Tensor:
    index = order.view(*order.shape, *[1] * (x.ndim - 2)).expand(*order.shape, *x.shape[2:])
    return x.gather(1, index)


@cache
def _other_sites(device: torch.device) -> Tensor:
    """int64 [SITES]: `opposite_sites`."""
    return torch.from_numpy(opposite_sites()).long().to(device)
