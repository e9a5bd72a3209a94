"""The sparse encoder: embedded tokens in, context-aware embeddings out, in one readable path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.attention import BACKENDS, HeadGroups, Pattern, Window, pattern_from_dict
from core.attention.auto import Workload
from core.errors import ConfigError
from core.model.block import ACTIVATIONS, NORMS, Block
from core.model.padding import real_span
from core.model.sparse_attention import check_heads


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is, saved with its weights.

    Attributes:
        dim: channels of a token.
        layers, heads: number of blocks, and of attention heads in each.
        kv_heads: heads of keys and values, a divisor of heads; as many as heads where None.
        ffn: width of the feed-forward layer as a multiple of dim.
        activation: "gelu", or "swiglu" with as many parameters.
        norm: "layer", or "rms" (Zhang & Sennrich 2019, arXiv:1910.07467).
        dropout: share of channels dropped on each residual branch in training.
        stochastic_depth: how often the last block's branches are left out in training; in block
            l of L it is l / L of that.
        pattern: which token attends to which.
        rotary_base: see `rotate`; larger keeps longer distances apart.
        block: see `Pattern.plan`; speed only.
        backend: see `attend`.
        checkpoint: keep only each block's input for the backward pass and compute the rest
            again: less memory, about a third more time; the same numbers.
    """

    dim: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int | None = None
    ffn: int = 4
    activation: str = "gelu"
    norm: str = "layer"
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    pattern: Pattern = field(default_factory=lambda: Window(64))
    rotary_base: float = 10000.0
    block: int | None = None
    backend: str = "auto"
    checkpoint: bool = False

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "ffn", "block"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}: got {value!r}, expected an integer of at least 1")
        if not 0 < self.rotary_base < inf:
            raise ConfigError(f"rotary_base: got {self.rotary_base}, expected a number above 0")
        if not isinstance(self.pattern, Pattern):
            raise ConfigError(f"pattern: got {self.pattern!r}, expected one such as Window(64)")
        keys = self.heads if self.kv_heads is None else self.kv_heads
        check_heads(self.dim, self.heads, keys)
        if isinstance(self.pattern, HeadGroups) and self.pattern.kv_heads != keys:
            raise ConfigError(
                f"pattern: got groups of {self.pattern.kv_heads} heads of keys together, expected "
                f"the {keys} of the encoder"
            )
        for name in ("dropout", "stochastic_depth"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected 0 <= {name} < 1")
        known = {"backend": BACKENDS, "norm": tuple(NORMS), "activation": ACTIVATIONS}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}: got {getattr(self, name)!r}, expected one of {choices}")

    def workload(self, tokens: int, sequences: float, block: int | None = None) -> Workload:
        """The attention of a step on so many sequences of so many tokens."""
        block = self.block if block is None else block
        size = self.dim // self.heads
        return Workload(tokens, sequences, self.layers, self.heads, size, block)

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
        self.blocks = nn.ModuleList(
            Block(config, skip=config.stochastic_depth * (at + 1) / config.layers)
            for at in range(config.layers)
        )
        self.norm = NORMS[config.norm](config.dim)

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
            ConfigError: tokens or positions of another shape; padding of another shape or dtype,
                or with a gap between real tokens.
        """
        self._check_shapes(x_BND, positions)
        n = x_BND.shape[1]
        plan = self.config.pattern.plan(range(n), range(n), self.config.block)
        bounds = None if padding is None else real_span(padding, x_BND)
        if positions is None:
            positions = torch.arange(n, device=x_BND.device)
        again = self.config.checkpoint and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if again:
                x_BND = checkpoint(block, x_BND, plan, positions, bounds, use_reentrant=False)
            else:
                x_BND = block(x_BND, plan, positions, bounds)
        return self.norm(x_BND)

    def _check_shapes(self, x_BND: Tensor, positions: Tensor | None) -> None:
        found, dim = tuple(x_BND.shape), self.config.dim
        if len(found) != 3 or found[2] != dim:
            raise ConfigError(f"tokens: got shape {found}, expected [batch, tokens, {dim}]")
        batch, n, _ = found
        if positions is not None and tuple(positions.shape) not in ((n,), (batch, n)):
            raise ConfigError(
                f"positions: got shape {tuple(positions.shape)}, expected [{n}] or [{batch}, {n}]"
            )
