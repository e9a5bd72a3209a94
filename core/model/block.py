"""One pre-norm transformer block: sparse attention and a feed-forward layer, each added on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.attention import Plan, StreamState
from core.model.linear import FeedForward, two_layers
from core.model.sparse_attention import SparseAttention

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig

NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ACTIVATIONS = ("gelu", "swiglu")


class Block(nn.Module):
    """`skip` is the probability that a branch is left out of a sequence in training."""

    def __init__(self, config: EncoderConfig, skip: float) -> None:
        super().__init__()
        dim, norm = config.dim, NORMS[config.norm]
        self.skip = skip
        self.attention_norm = norm(dim)
        self.attention = SparseAttention(
            dim, config.heads, config.rotary_base, config.backend, config.kv_heads
        )
        self.ffn_norm = norm(dim)
        self.ffn = feed_forward(dim, dim * config.ffn, config.activation)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BND: Tensor, plan: Plan, positions: Tensor, bounds: Tensor | None
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x_BND), plan, positions, bounds)
        return self._added(x_BND, attended)

    def stream(
        self, x_BND: Tensor, state: StreamState, positions: Tensor, start: Tensor | None
    ) -> Tensor:
        """The next tokens of a stream (see `EncoderStream`)."""
        attended = self.attention.stream(self.attention_norm(x_BND), state, positions, start)
        return self._added(x_BND, attended)

    def _added(self, x_BND: Tensor, attended_BND: Tensor) -> Tensor:
        x_BND = x_BND + self._kept(self.dropout(attended_BND))
        return x_BND + self._kept(self.dropout(self.ffn(self.ffn_norm(x_BND))))

    def _kept(self, branch_BND: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016, arXiv:1603.09382), a sequence at a time.

        What stays is scaled up, so that the mean is the branch and scoring needs no factor.
        """
        if not self.training or not self.skip:
            return branch_BND
        keep = 1 - self.skip
        return branch_BND * torch.empty_like(branch_BND[:, :1, :1]).bernoulli_(keep).div_(keep)


def feed_forward(dim: int, hidden: int, activation: str) -> nn.Module:
    return SwiGLU(dim, hidden) if activation == "swiglu" else FeedForward(dim, hidden, nn.GELU())


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020, arXiv:2002.05202).

    Two thirds of the hidden width, so that it has the parameters of the plain layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        width = max(1, 2 * hidden // 3)
        self.project_in = nn.Linear(dim, 2 * width)
        self.project_out = nn.Linear(width, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        return two_layers(x_BND, self.project_in, gated, self.project_out)


def gated(hidden: Tensor) -> Tensor:
    """[..., 2 A] -> [..., A]"""
    gate, up = hidden.chunk(2, dim=-1)
    return F.silu(gate) * up
