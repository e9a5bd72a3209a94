"""A number for every short run of bases, learned; the same for a run and its reverse complement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.genomics.contig import UNKNOWN


class KmerTables(nn.Module):
    """Bases -> one number a sequence: the sum over all its runs of each length. 0 at first.

    Args:
        lengths: bases of a run.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        self.tables = nn.ModuleList(nn.Embedding(4**k + 1, 1) for k in lengths)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, base: Tensor, real: Tensor) -> Tensor:
        """[B], from codes int64 [B, N] of which those that are real [B, N] count; runs with N do
        not."""
        unknown = (base == UNKNOWN) | ~real
        base = base.masked_fill(unknown, 0)
        total = base.new_zeros(len(base), dtype=torch.get_default_dtype())
        for k, table in zip(self.lengths, self.tables, strict=True):
            runs = base.unfold(1, k, 1)
            left = 4 ** torch.arange(k - 1, -1, -1, device=base.device)
            index = torch.minimum((runs * left).sum(-1), ((3 - runs) * left.flip(0)).sum(-1))
            known = ~unknown.unfold(1, k, 1).any(-1)
            each = table(index.masked_fill(~known, 4**k)).squeeze(-1)
            total = total + (each * known).sum(1)
        return total
