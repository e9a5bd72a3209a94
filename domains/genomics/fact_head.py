"""A small network on facts: what is known of a base and of each alternative -> four numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domains.genomics.fact_config import FactsConfig
from domains.genomics.fact_scale import FactScale

CLIP = 4.0  # standard deviations


class FactHead(nn.Module):
    """One hidden layer, and a straight line beside it, on facts in units of their spread.

    Args:
        scale: of the facts; not among the weights, as the tokenizer keeps it.

    Attributes:
        encoder: how much of the encoder's number is added to this network's.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, scale: FactScale, config: FactsConfig) -> None:
        super().__init__()
        self.sites, self.hide, self.dropout = scale.sites, config.hide, config.dropout
        self.encoder = config.encoder
        for name in ("mean", "scale"):
            numbers = torch.tensor(getattr(scale, name), dtype=torch.float32)
            self.register_buffer(name, numbers, persistent=False)
        changes = len(scale.names) - scale.sites
        self.site = nn.Linear(scale.sites, config.hidden + 1)
        self.change = nn.Linear(changes, config.hidden + 1, bias=False)
        self.out = nn.Linear(config.hidden, 1)

    def forward(self, site: Tensor, change: Tensor) -> Tensor:
        """[B, N, sites] and [B, N, 4, changes] -> [B, N, 4]."""
        k = self.sites
        site = self._hidden(self._scaled(site, self.mean[:k], self.scale[:k]))
        change = self._hidden(self._scaled(change, self.mean[k:], self.scale[k:]))
        both = self.site(site)[..., None, :] + self.change(change)
        straight, bent = both[..., 0], F.gelu(both[..., 1:])
        bent = F.dropout(bent, self.dropout, self.training)
        return self.out(bent).squeeze(-1) + straight

    def _scaled(self, facts: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        # What does not apply is NaN, and becomes the mean.
        return torch.nan_to_num((facts - mean) / scale).clamp(-CLIP, CLIP)

    def _hidden(self, facts: Tensor) -> Tensor:
        return F.dropout(facts, self.hide, self.training)
