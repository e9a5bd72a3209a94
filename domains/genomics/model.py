"""The effect network: bases and gene structure in, four numbers a position out.

Shapes: B windows, N positions, D width of the encoder, C channels, 4 alternative bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model.encoder import EncoderConfig, SparseEncoder
from core.training.module import SequenceModule
from domains.genomics.channel import UNIT
from domains.genomics.codon import NO_AMINO_ACID, SITES, amino_acid_distances, amino_acid_tables
from domains.genomics.contig import UNKNOWN
from domains.genomics.fact_head import FactHead
from domains.genomics.length_waves import LengthWaves
from domains.genomics.other_strand import back, other_strand, reading_order

STEM = 7  # bases the convolution at the bottom sees
NEIGHBOURS = 5  # states the head sees: a codon's two other bases are within 2 on either side
ACIDS = NO_AMINO_ACID + 1


class Stem(nn.Module):
    """Bases, channels and encoded amino acids -> [B, N, D], mixed over STEM positions.

    Args:
        channels: number of input channels.
        dim: D.
        length_waves: frequencies of `LengthWaves`; 0 has none.
    """

    def __init__(self, channels: int, dim: int, length_waves: int) -> None:
        super().__init__()
        self.base = nn.Embedding(UNKNOWN + 1, dim)
        self.acid = nn.Embedding(ACIDS, dim)
        self.channel = nn.Linear(channels, dim)
        self.length = LengthWaves(length_waves, dim) if length_waves else None
        self.mix = nn.Conv1d(dim, dim, STEM, padding=STEM // 2)

    def forward(self, base: Tensor, channel: Tensor, acid: Tensor, real: Tensor) -> Tensor:
        x = self.base(base) + self.acid(acid) + self.channel(channel)
        if self.length is not None:
            x = x + self.length(channel)
        x = x * real[..., None]  # padding must not leak into the convolution
        return x + F.gelu(self.mix(x.transpose(1, 2)).transpose(1, 2))


class EffectHead(nn.Module):
    """States of a position and its neighbours, and what the substitution is -> 4 numbers.

    Every alternative shares the weights; it is told apart by the pair of bases and, in coding
    sequence, by the pair of amino acids.

    Args:
        dim: D.
        dropout: share of hidden numbers dropped in training.
        length_waves: frequencies by which a gene decides how much a change matters in it, as a
            factor, which begins as 1; 0 decides nothing.
    """

    def __init__(self, dim: int, dropout: float, length_waves: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.near = nn.Conv1d(dim, dim, NEIGHBOURS, padding=NEIGHBOURS // 2)
        self.change = nn.Embedding((UNKNOWN + 1) * 4, dim)
        self.acid_change = nn.Embedding(ACIDS * ACIDS, dim)
        known = torch.from_numpy(amino_acid_distances()).flatten(0, 1)
        self.register_buffer("distances", known, persistent=False)
        self.distance = nn.Linear(known.shape[1], dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 1)
        self.gene_change = LengthWaves(length_waves, dim).silent() if length_waves else None
        self.gene_hidden = LengthWaves(length_waves, dim).silent() if length_waves else None
        for table in (self.change, self.acid_change):
            nn.init.normal_(table.weight, std=0.1)

    def forward(
        self,
        x: Tensor,
        base: Tensor,
        before: Tensor,
        after: Tensor,
        real: Tensor,
        channel: Tensor,
    ) -> Tensor:
        x = self.norm(x) * real[..., None]
        near = self.near(x.transpose(1, 2)).transpose(1, 2)
        change = self.change(base[..., None] * 4 + torch.arange(4, device=base.device))
        pair = before[..., None] * ACIDS + after
        acid = self.acid_change(pair) + self.distance(self.distances)[pair]
        told = change + acid  # [B, N, 4, D]
        if self.gene_change is not None:
            told = told * (1 + self.gene_change(channel))[:, :, None]
        x = F.gelu(near[:, :, None] + told)
        x = F.gelu(self.hidden(self.dropout(x)))
        if self.gene_hidden is not None:
            x = x * (1 + self.gene_hidden(channel))[:, :, None]
        return self.out(self.dropout(x)).squeeze(-1)


class EffectModule(SequenceModule):
    """Stem, sparse encoder, effect head; loss on labelled (position, alternative) only.

    Args:
        encoder: sizes and attention pattern.
        channels: number of input channels.
        classification: binary cross-entropy on logits; else Huber loss in model units.
        noise: share of bases, with their amino acid, hidden from the encoder in training.
        codons: False hides amino acids everywhere.
        genetic_code: by which codons are read.
        facts: a network on facts, which the rest is added to; that is nothing at first.
        length_waves: frequencies of `LengthWaves`; 0 has none.

    Attributes:
        trainings: how many of a network the numbers are the mean of.
        both_strands: numbers are the mean of both strands' readings, and training reads the one or
            the other, drawn a batch.
    """

    before: Tensor
    after: Tensor
    trainings = 1
    both_strands = False

    def __init__(
        self,
        encoder: EncoderConfig,
        channels: int,
        classification: bool,
        noise: float,
        codons: bool,
        genetic_code: int,
        facts: FactHead | None = None,
        length_waves: int = 0,
    ) -> None:
        super().__init__()
        self.classification, self.noise, self.codons = classification, noise, codons
        self.length_waves = length_waves
        self.build(encoder, channels)
        self.head = EffectHead(encoder.dim, encoder.dropout, length_waves)
        self.facts = facts
        if facts is not None:
            for parameter in self.head.out.parameters():
                nn.init.zeros_(parameter)
            if not facts.encoder:
                self.requires_grad_(False)
                facts.requires_grad_(True)
        self._config = encoder
        before, after = (torch.from_numpy(t).long() for t in amino_acid_tables(genetic_code))
        if not codons:
            before, after = (torch.full_like(t, NO_AMINO_ACID) for t in (before, after))
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("after", after, persistent=False)
        assert before.shape == (SITES,)

    def build(self, encoder: EncoderConfig, channels: int) -> None:
        """Make what `states` needs."""
        self.stem = Stem(channels, encoder.dim, self.length_waves)
        self.encoder = SparseEncoder(encoder)

    def states(self, base: Tensor, channel: Tensor, acid: Tensor, real: Tensor) -> Tensor:
        """[B, N, D]: what is known of each position, from what is seen of all."""
        return self.encoder(self.stem(base, channel, acid, real), real)

    def reach(self) -> int | None:
        """Bases on either side that can change a position's score; None when unbounded."""
        attention = self._config.pattern.reach()
        if attention is None:
            return None
        return self._config.layers * attention + STEM // 2 + NEIGHBOURS // 2

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """[B, N, 4] in model units, from what `stack_windows` gives."""
        here = self._strand(batch)
        if self.training or not self.both_strands:
            return here
        there = back(self._strand(other_strand(batch)), reading_order(batch["real"]))
        return (here + there) / 2

    def _strand(self, batch: dict[str, Any]) -> Tensor:
        """[B, N, 4], the windows read as they are."""
        if self.facts is None:
            return self._read(batch)
        told = self.facts(batch["fact"], batch["change"])
        share = self.facts.encoder
        return told + share * self._read(batch) if share else told

    def _read(self, batch: dict[str, Any]) -> Tensor:
        """[B, N, 4] of bases and channels, by the encoder."""
        base, site, real = batch["base"], batch["site"], batch["real"]
        before, after = self.before[site], self.after[site]
        seen, acid = base, before
        if self.training and self.noise:
            hide = torch.rand(base.shape, device=base.device) < self.noise
            seen = base.masked_fill(hide, UNKNOWN)
            acid = before.masked_fill(hide, NO_AMINO_ACID)
        channel = batch["channel"].to(self.head.out.weight.dtype) / UNIT
        x = self.states(seen, channel, acid, real)
        return self.head(x, base, before, after, real, channel)

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean over labelled alternatives, each counted by its weight."""
        if self.training and self.both_strands and bool(torch.rand(()) < 0.5):
            batch = other_strand(batch)
        output, label, weight = self(batch), batch["label"], batch["weight"]
        if self.classification:
            each = F.binary_cross_entropy_with_logits(output, label, reduction="none")
        else:
            each = F.huber_loss(output, label, reduction="none")
        return self.mean((each * weight).sum(), weight.sum())

    def each(self, batch: dict[str, Any]) -> Tensor:
        """[1, B, N, 4]: what `EffectEnsemble.each` gives of its members."""
        return self(batch)[None]

    @classmethod
    def ensemble(cls, members: Sequence[EffectModule]) -> EffectEnsemble:
        return EffectEnsemble(members)


class EffectEnsemble(SequenceModule):
    """Mean effect, in model units, of several trainings of the same network."""

    def __init__(self, members: Sequence[EffectModule]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.reach = members[0].reach
        self.trainings = len(members)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """[B, N, 4]."""
        return self.each(batch).mean(0)

    def each(self, batch: dict[str, Any]) -> Tensor:
        """[K, B, N, 4]: the numbers of each of K members."""
        return torch.stack([member(batch) for member in self.members])
