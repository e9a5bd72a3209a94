"""The effect network with a second head, for any change of the sequence: what it makes of the bases
around an event after it, less what it makes of them before.

Shapes: E events, N positions, D width of the encoder, K members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model.encoder import EncoderConfig
from domains.genomics.channel import UNIT
from domains.genomics.kmer_table import KmerTables
from domains.genomics.model import EffectEnsemble, EffectModule


class SumHead(nn.Module):
    """States -> one number a sequence, the sum over its positions.

    A sum, because whatever an event does not reach is then the same before and after it and
    cancels, however long the window.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 1, bias=False)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        each = self.out(F.gelu(self.hidden(self.norm(x)))).squeeze(-1)
        return (each * real).sum(1)


class DifferenceModule(EffectModule):
    """`EffectModule` whose batches also have events (`domains.genomics.difference_window`)."""

    HEAD = ("head.", "event_head.", "kmers.")
    kmers: KmerTables | None = None

    def __init__(self, encoder: EncoderConfig, *arguments: Any, **named: Any) -> None:
        super().__init__(encoder, *arguments, **named)
        self.event_head = SumHead(encoder.dim)

    def difference(self, batch: dict[str, Any]) -> Tensor:
        """[E] in model units: of the first half of the sequences (after) less the second (before).

        Nothing is hidden and nothing dropped: the two sides must differ by the event alone.
        """
        base, site, real = batch["base"], batch["site"], batch["real"]
        channel = batch["channel"].to(self.event_head.out.weight.dtype) / UNIT
        training = self.training
        self.train(False)
        try:
            x = self.states(base, channel, self.before[site], real)
        finally:
            self.train(training)
        total = self.event_head(x, real)
        if self.kmers is not None:
            total = total + self.kmers(base, real)
        after, before = total.chunk(2)
        return after - before

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Of the four numbers a base, and of the events."""
        events = batch["events"]
        output, label, weight = self.difference(events), events["label"], events["weight"]
        if self.classification:
            each = F.binary_cross_entropy_with_logits(output, label, reduction="none")
        else:
            each = F.huber_loss(output, label, reduction="none")
        return super().loss(batch) + self.mean((each * weight).sum(), weight.sum())

    def each_difference(self, batch: dict[str, Any]) -> Tensor:
        """[1, E]: what `DifferenceEnsemble.each_difference` gives of its members."""
        return self.difference(batch)[None]

    @classmethod
    def ensemble(cls, members: Sequence[Any]) -> DifferenceEnsemble:
        return DifferenceEnsemble(members)


class DifferenceEnsemble(EffectEnsemble):
    """Mean of several trainings of a `DifferenceModule`."""

    def each_difference(self, batch: dict[str, Any]) -> Tensor:
        """[K, E]: the numbers of each of K members."""
        members = [m for m in self.members if isinstance(m, DifferenceModule)]
        return torch.stack([member.difference(batch) for member in members])
