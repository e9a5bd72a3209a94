"""The length of a coding sequence as waves: a network tells genes of nearly one length apart by it.

Shapes: B windows, N positions, C channels, D width of the encoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from domains.genomics.channel import CHANNELS

_COLUMNS = [i for i, name in enumerate(CHANNELS) if name.endswith("coding_length")]


class LengthWaves(nn.Module):
    """Sine and cosine of half a turn, one, two, four ... turns a unit of `length_level`, of each
    strand -> [B, N, D]; nothing outside coding sequence.

    One number a base is a straight line to a linear layer, on which a gene cannot differ from both
    a shorter and a longer one. After the position encoding of Vaswani et al. 2017, section 3.5.
    """

    turns: Tensor

    def __init__(self, waves: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("turns", math.pi * 2.0 ** torch.arange(waves), persistent=False)
        self.mix = nn.Linear(len(_COLUMNS) * waves * 2, dim, bias=False)

    def silent(self) -> LengthWaves:
        """Itself, with weights of 0: it says nothing until training lets it."""
        nn.init.zeros_(self.mix.weight)
        return self

    def forward(self, channel: Tensor) -> Tensor:
        level = channel[..., _COLUMNS]
        angle = level[..., None] * self.turns
        told = torch.cat((angle.sin(), angle.cos()), dim=-1) * (level > 0)[..., None]
        return self.mix(told.flatten(-2).to(self.mix.weight.dtype))
