"""What lies on either side of a base, read without the base itself.

One causal encoder reads the strand up to the base, and the other strand up to the same base, which
then is all that follows. So every base of a window is foreseen from all others in one pass, as if
each were masked alone (two directions as in Baevski et al. 2019, arXiv:1903.07785), and whatever is
made of the two states by a rule that treats them alike reads both strands the same way.

Shapes: B windows, N positions, D width of the encoder.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attention import Causal
from core.model.encoder import EncoderConfig, SparseEncoder
from domains.genomics.contig import UNKNOWN

KMER = 6  # bases that a token tells of: its own and those before it


def complement(base: Tensor) -> Tensor:
    """Codes of the other strand, position by position; N stays N."""
    return torch.where(base == UNKNOWN, base, UNKNOWN - 1 - base)


def kmer_codes(base: Tensor) -> Tensor:
    """int64 [B, N] -> number of the KMER bases that end at each position, in digits of base 5; what
    lies before the window counts as N."""
    n = base.shape[1]
    padded = F.pad(base, (KMER - 1, 0), value=UNKNOWN)
    code = torch.zeros_like(base)
    for place in range(KMER):
        code = code * (UNKNOWN + 1) + padded[:, place : place + n]
    return code


class StrandReader(nn.Module):
    """Bases -> two states a position: of what comes before it, and of what comes after it on the
    other strand."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.kmer = nn.Embedding((UNKNOWN + 1) ** KMER, config.dim)
        self.encoder = SparseEncoder(replace(config, pattern=config.pattern & Causal()))
        nn.init.normal_(self.kmer.weight, std=0.1)
        self._config = config

    def reach(self) -> int | None:
        """Bases on either side that can change a position's states; None when unbounded."""
        attention = self.encoder.config.pattern.reach()
        return None if attention is None else self._config.layers * attention + KMER

    def forward(self, base: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Two [B, N, D]: neither depends on the base of its own position, nor on padding.

        Args:
            base: codes [B, N], N on padding.
            real: bool [B, N], False on padding, which is at the end; None without any.
        """
        base = base.long()
        both = torch.cat([base, complement(base).flip(1)])
        padding = None if real is None else torch.cat([real, real.flip(1)])
        states = self.encoder(self.kmer(kmer_codes(both)), padding)
        if padding is not None:
            states = states * padding[..., None]  # beyond an end of the contig there is nothing
        forth, back = states.chunk(2)
        before = F.pad(forth[:, :-1], (0, 0, 1, 0))
        after = F.pad(back.flip(1)[:, 1:], (0, 0, 0, 1))
        return before, after
