"""The sparse encoder: embedded tokens in, context-aware embeddings out, in one readable path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from core.attention import BACKENDS, Pattern, Plan, Window, pattern_from_dict
from core.errors import ConfigError
from core.model.sparse_attention import SparseAttention


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is, saved with its weights.

    Attributes:
        dim: channels of a token.
        layers, heads: number of blocks, and of attention heads in each.
        ffn: width of the feed-forward layer as a multiple of dim.
        dropout: share of channels dropped on each residual branch in training.
        pattern: which token attends to which.
        rotary_base: see `rotate`; larger keeps longer distances apart.
        block: see `Pattern.plan`; speed only.
        backend: see `attend`.
    """

    dim: int = 64
    layers: int = 3
    heads: int = 4
    ffn: int = 4
    dropout: float = 0.0
    pattern: Pattern = field(default_factory=lambda: Window(64))
    rotary_base: float = 10000.0
    block: int = 64
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "ffn", "block"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.dim % (2 * self.heads):
            raise ConfigError(
                f"dim: got {self.dim} with {self.heads} heads, expected a multiple of 2 * heads"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout: got {self.dropout}, expected 0 <= dropout < 1")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: got {self.backend!r}, expected one of {BACKENDS}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "pattern": self.pattern.to_dict()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> EncoderConfig:
        """Raises ConfigError for fields it doesn't know; missing ones take their default."""
        unknown = set(saved) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"encoder: got unknown fields {sorted(unknown)}")
        values = dict(saved)
        if "pattern" in values:
            values["pattern"] = pattern_from_dict(values["pattern"])
        return cls(**values)


class SparseEncoder(nn.Module):
    """Pre-norm transformer blocks whose attention follows `config.pattern`.

    A token's output depends on tokens at most layers x pattern.reach() away.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self, x_BND: Tensor, padding: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Encodes a batch of sequences.

        Args:
            x_BND: embedded tokens [batch, tokens, dim].
            padding: bool [B, N], True for a real token. The real tokens of a sequence must be
                neighbours (padding before, after or both). No token attends to padding; what
                comes out at padding means nothing.
            positions: [N] or [B, N] for rotary, token index or time; 0, 1, ... where None. The
                pattern always goes by index in the tensor.

        Raises:
            ConfigError: padding of another shape or dtype, or with a gap between real tokens.
        """
        n = x_BND.shape[1]
        plan = self.config.pattern.plan(range(n), range(n), self.config.block)
        bounds = None if padding is None else _real_span(padding, x_BND)
        if positions is None:
            positions = torch.arange(n, device=x_BND.device)
        for block in self.blocks:
            x_BND = block(x_BND, plan, positions, bounds)
        return self.norm(x_BND)


class _Block(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.ffn
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SparseAttention(dim, config.heads, config.rotary_base, config.backend)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BND: Tensor, plan: Plan, positions: Tensor, bounds: Tensor | None
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x_BND), plan, positions, bounds)
        x_BND = x_BND + self.dropout(attended)
        return x_BND + self.dropout(self.ffn(self.ffn_norm(x_BND)))


def _real_span(padding: Tensor, x_BND: Tensor) -> Tensor | None:
    """Bounds int32 [B, N, 2] that keep every query to the real tokens; None where all are."""
    expected = x_BND.shape[:2]
    if padding.shape != expected or padding.dtype != torch.bool:
        raise ConfigError(
            f"padding: got {padding.dtype} {tuple(padding.shape)}, "
            f"expected torch.bool {tuple(expected)}"
        )
    if bool(padding.all()):
        return None
    count = padding.sum(1)
    first = padding.int().argmax(1)
    index = torch.arange(padding.shape[1], device=padding.device)
    span = (index >= first[:, None]) & (index < (first + count)[:, None])
    if not bool((span == padding).all()):
        row = int((span != padding).any(1).nonzero()[0])
        raise ConfigError(
            f"padding: got a gap between the real tokens of sequence {row}, "
            "expected neighbours with padding around them only"
        )
    ends = torch.stack((first, first + count), -1).int()
    return ends[:, None].expand(-1, padding.shape[1], -1)
