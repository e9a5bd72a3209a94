"""Reading the memory of one view, from gathered slots or from the whole stream, with equal numbers.

Shapes: n events of the stream, T targets, W window slots, R rounds, H heads, E head size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from core.attention.keyed import KeyedIndex, keyed_attend


class StreamView(NamedTuple):
    """Keys and values [n, R, H, E + 1] of a view, their last channel the clock."""

    index: KeyedIndex
    plain: tuple[Tensor, Tensor]
    labelled: tuple[Tensor, Tensor] | None


def with_clock(pair: tuple[Tensor, Tensor], clock: Tensor) -> tuple[Tensor, Tensor]:
    """One more channel: in keys it makes the decay part of the dot product, in values the mean
    age part of what is read."""
    keys, values = pair
    channel = clock.view(-1, 1, 1, 1).expand(*keys.shape[:-1], 1)
    return torch.cat([keys, channel], dim=-1), torch.cat([values, channel], dim=-1)


def read_stream(
    q: Tensor, view: StreamView, r: int, now: Tensor, decay: Tensor, query: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `read_slots` by the windowed kernel over the whole stream."""

    def layer(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0][:, r].transpose(0, 1), pair[1][:, r].transpose(0, 1)

    q = torch.cat([q, decay[:, None].expand(*q.shape[:-1], 1)], dim=-1).transpose(0, 1)
    out, mass = keyed_attend(
        q,
        *layer(view.plain),
        view.index,
        labelled=layer(view.labelled) if view.labelled else None,
        query=query,
        scale=1.0,
        return_lse=True,
    )
    out, mass = out.transpose(0, 1), mass.transpose(0, 1)
    return out[..., :-1], mass - decay * now[:, None], now[:, None] - out[..., -1]


def read_slots(
    q: Tensor, keys: Tensor, values: Tensor, age: Tensor, empty: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """[T, H, E] queries on [T, W, H, E] memory -> read [T, H, E], log mass and age [T, H]."""
    score = torch.einsum("the,twhe->thw", q, keys) - decay[:, None] * age[:, None, :]
    score = score.masked_fill(empty[:, None, :], -math.inf)
    mass = torch.logsumexp(score, dim=-1)
    share = torch.exp(score - mass[..., None])
    read = torch.einsum("thw,twhe->the", share, values)
    return read, mass, torch.einsum("thw,tw->th", share, age)
