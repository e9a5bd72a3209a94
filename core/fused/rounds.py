"""The gathered encoder's rounds over windows that are stretches of a memory: float32, on a CPU,
without gradient. The slow twin is `GatheredEncoder.hidden`.

Shapes as in `core.fused.windows`; D width of hidden states, H heads of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.fused.lanes import LANES
from core.fused.reading import found_width, read, tell_ages
from core.fused.windows import Windows
from core.model.gathered import GatheredEncoder, GatheredRound
from core.model.slots import LOG2E


class Sight(NamedTuple):
    """What targets see through one view: `memory` [R, E + E + C] of keys, values and carried
    numbers, and their windows."""

    memory: np.ndarray
    windows: Windows


class FusedEncoder:
    """Made of an encoder's weights as they are now."""

    def __init__(self, encoder: GatheredEncoder) -> None:
        self.encoder = encoder
        layers = cast("list[GatheredRound]", list(encoder.rounds))
        self.rounds = [FusedRound(layer) for layer in layers]

    def hidden(self, events: Tensor, numbers: Tensor, seen: Sequence[Sight]) -> Tensor:
        """Hidden states [T, D] of targets from their embeddings [T, D], their carried numbers
        [T, C] and what they see through each view."""
        hidden = events
        if self.encoder.config.few_labels:
            hidden = hidden + self.encoder.marked(_marked(one) for one in seen)
        for layer in self.rounds:
            hidden = layer(hidden, numbers, seen)
        return hidden


def _marked(seen: Sight) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    windows, slots = seen.windows, seen.windows.row.shape[1]
    there = np.arange(slots) >= slots - windows.have[:, None]
    ages, days, states, there = map(
        torch.from_numpy, (windows.age, windows.days, windows.state, there)
    )
    return ages, days, states, there


class FusedRound:
    """A `GatheredRound` whose weights are laid out in groups of LANES heads."""

    def __init__(self, layer: GatheredRound) -> None:
        self.layer, config = layer, layer.config
        self.size, self.carried = config.head_size, config.carried
        self.heads = [config.heads_of(v) for v in range(len(config.views))]
        self.groups = [-(-count // LANES) for count in self.heads]
        query = torch.cat([layer.query.weight, layer.query.bias[:, None]], dim=1)
        query = query.unflatten(0, (config.heads, -1)) * layer.scale.float()[:, None]
        query = self._grouped(query).transpose(1, 2).flatten(0, 2)
        self.weight, self.bias = query[:, :-1].contiguous(), query[:, -1].contiguous()
        self.sink = (self._grouped(layer.sink) * LOG2E).numpy()
        means, numbers, mass, daily = map(self._grouped, layer.told_by_head())
        told = torch.cat([means, numbers, mass], dim=2)
        self.told = told.transpose(1, 2).flatten(0, 2).contiguous()
        self.daily = daily.flatten(0, 1).numpy()

    def _grouped(self, each: Tensor) -> Tensor:
        """[H of all views, ...] -> [G of all views, LANES, ...]: a view's last group is filled up
        with heads whose weights are zero."""
        parts = []
        for part, groups in zip(each.split(self.heads), self.groups, strict=True):
            rest = part.new_zeros(groups * LANES - len(part), *part.shape[1:])
            parts.append(torch.cat([part, rest]).unflatten(0, (groups, LANES)))
        return torch.cat(parts)

    def __call__(self, hidden: Tensor, numbers: Tensor, seen: Sequence[Sight]) -> Tensor:
        asked = F.linear(self.layer.norm(hidden), self.weight, self.bias)
        found, aged = self._read(asked, numbers, seen)
        told = hidden + self.layer.out.bias
        if not self.layer.config.few_labels:
            tell_ages(aged, self.daily, told.numpy())
        hidden = torch.addmm(told, torch.from_numpy(found).flatten(1), self.told)
        return hidden + self.layer.ffn(hidden)

    def _read(
        self, asked: Tensor, numbers: Tensor, seen: Sequence[Sight]
    ) -> tuple[np.ndarray, np.ndarray]:
        """[T, all queries] -> [T, all G, found, LANES] and [T, all G, 2, LANES]."""
        groups = sum(self.groups)
        query = asked.view(len(asked), groups, -1, LANES).numpy()
        width = found_width(self.size, self.carried)
        found = np.empty((len(asked), groups, width, LANES), dtype=np.float32)
        aged = np.empty((len(asked), groups, 2, LANES), dtype=np.float32)
        first, own = 0, numbers.numpy()
        for groups, (memory, windows) in zip(self.groups, seen, strict=True):
            read(query, first, groups, memory, windows, own, self.sink, found, aged)
            first += groups
        return found, aged
