"""The network of the task mlm: what is expected at a base, from all others.

Shapes: B windows, N positions, D width of the encoder, 4 bases in the order A C G T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model.encoder import EncoderConfig
from core.training.module import SequenceModule
from domains.genomics.contig import UNKNOWN
from domains.genomics.strand_reader import StrandReader

WIDER = 2  # hidden width of the head, as a multiple of D


class BaseHead(nn.Module):
    """The states before and after a base -> log-odds of the four bases.

    The sides meet in a gate, so that what is expected may depend on both at once. The other strand
    sees the same two states with their roles changed, and complements: the mean over strands is
    a sum of both here. Reversing A C G T gives their complements.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = WIDER * dim
        self.before = nn.Linear(dim, 2 * hidden)
        self.after = nn.Linear(dim, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, UNKNOWN)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """[B, N, 4]."""
        return self._strand(before, after) + self._strand(after, before).flip(-1)

    def _strand(self, before: Tensor, after: Tensor) -> Tensor:
        value, gate = (self.before(before) + self.after(after)).chunk(2, dim=-1)
        return self.out(F.gelu(gate) * value)


class MaskedModule(SequenceModule):
    """Reader of both strands and head of bases; loss on every known base.

    Args:
        noise: share of bases that training hides from the reader, all of which are foreseen still.

    Attributes:
        trainings: how many of a network the numbers are the mean of.
    """

    HEAD = ()
    trainings = 1

    def __init__(self, encoder: EncoderConfig, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.reader = StrandReader(encoder)
        self.bases = BaseHead(encoder.dim)

    def reach(self) -> int | None:
        """Bases on either side that can change a position's numbers; None when unbounded."""
        return self.reader.reach()

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """[B, N, 4] log-odds; keys base and, where there is padding, real."""
        seen = batch["base"]
        if self.training and self.noise:
            hide = torch.rand(seen.shape, device=seen.device) < self.noise
            seen = seen.masked_fill(hide, UNKNOWN)
        return self.bases(*self.reader(seen, batch.get("real")))

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean nats of the known bases, each counted by its `weight` where there is one."""
        base = batch["base"].long()
        odds = self(batch).float()
        each = F.cross_entropy(
            odds.flatten(0, 1), base.flatten(), ignore_index=UNKNOWN, reduction="none"
        )
        weight = (base != UNKNOWN).flatten().float()
        if "weight" in batch:
            weight = weight * batch["weight"].flatten()
        return self.mean((each * weight).sum(), weight.sum())

    def each(self, batch: dict[str, Any]) -> Tensor:
        """[1, B, N, 4]: log-probabilities (nats) of the four bases."""
        return F.log_softmax(self(batch).float(), dim=-1)[None]
