"""The encoder that published models have: token ids in, post-norm layers, learned positions.

BERT's architecture (Devlin et al. 2019, arXiv:1810.04805) around this library's attention, so that
weights trained elsewhere keep their meaning (`core.model.from_transformers`). What is trained from
the start here takes `SparseEncoder`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attention import Dense, HeadPlan, Pattern, Plan, attend
from core.errors import ConfigError
from core.model.linear import FeedForward, Linear
from core.model.padding import real_span

ACTIVATIONS = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class PostNormConfig:
    """What a `PostNormEncoder` is.

    Attributes:
        vocabulary, positions, types: rows of the embeddings of token id, position and type.
        dim, heads, hidden: channels of a token, attention heads, width of the feed-forward layer.
        patterns: which token attends to which, one for each layer.
        activation: one of `ACTIVATIONS`.
        eps: of the layer norms.
        dropout: share of channels dropped on embeddings and residual branches in training.
        dropped_first: whether embeddings lose theirs before the norm, as in BigBird.
        bias: whether queries, keys and values have one.
        first_position: row of the position embeddings that the first token takes.
        embedding_scale: factor of the token embeddings.
        global_tokens: tokens whose rows of attention, over all keys, have projections of their
            own (Longformer's global attention); they belong into the patterns as well.
        length: the only length the patterns are for, any where None.
        block, backend: see `Pattern.plan` and `attend`; speed only.
    """

    vocabulary: int
    positions: int
    dim: int
    heads: int
    hidden: int
    patterns: tuple[Pattern, ...]
    types: int = 1
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.0
    dropped_first: bool = False
    bias: bool = True
    first_position: int = 0
    embedding_scale: float = 1.0
    global_tokens: tuple[int, ...] = ()
    length: int | None = None
    block: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % self.heads:
            raise ConfigError(f"dim: got {self.dim}, expected a multiple of {self.heads} heads")
        if self.activation not in ACTIVATIONS:
            known = tuple(ACTIVATIONS)
            raise ConfigError(f"activation: got {self.activation!r}, expected one of {known}")


class PostNormEncoder(nn.Module):
    """Embeddings and post-norm transformer layers whose attention follows `config.patterns`."""

    def __init__(self, config: PostNormConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.dim)
        self.positions = nn.Embedding(config.positions, config.dim)
        self.types = nn.Embedding(config.types, config.dim)
        self.norm = nn.LayerNorm(config.dim, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(PostNormLayer(config) for _ in config.patterns)

    def forward(
        self,
        tokens: Tensor,
        padding: Tensor | None = None,
        positions: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Encodes a batch of sequences.

        Args:
            tokens: ids, int64 [B, N].
            padding: bool [B, N] as in `SparseEncoder`, True for a real token.
            positions: int64 [N] or [B, N], rows of the position embeddings; where None the
                tokens' index, counted from `config.first_position`.
            types: int64 [B, N], 0 where None.

        Returns:
            x_BND; what comes out at padding means nothing.

        Raises:
            ConfigError: tokens of a length that the model isn't for, or padding with gaps.
        """
        config, n = self.config, tokens.shape[1]
        longest = config.positions - config.first_position
        if n != (config.length or n) or (positions is None and n > longest):
            fits = f"at most {longest}" if config.length is None else f"exactly {config.length}"
            raise ConfigError(f"tokens: got a length of {n}, expected {fits}")
        if positions is None:
            positions = torch.arange(n, device=tokens.device) + config.first_position
        x_BND = self.tokens(tokens) * config.embedding_scale + self.positions(positions)
        x_BND = x_BND + self.types(torch.zeros_like(tokens) if types is None else types)
        if config.dropped_first:
            x_BND = self.norm(self.dropout(x_BND))
        else:
            x_BND = self.dropout(self.norm(x_BND))
        bounds = None if padding is None else real_span(padding, x_BND)
        for layer, pattern in zip(self.layers, config.patterns, strict=True):
            x_BND = layer(x_BND, pattern.plan(range(n), range(n), config.block), bounds)
        return x_BND


class PostNormLayer(nn.Module):
    """Attention and a feed-forward layer, each added on and then normed."""

    def __init__(self, config: PostNormConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention = PostNormAttention(config)
        self.attention_norm = nn.LayerNorm(dim, config.eps)
        self.ffn = FeedForward(dim, config.hidden, ACTIVATIONS[config.activation]())
        self.ffn_norm = nn.LayerNorm(dim, config.eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BND: Tensor, plan: Plan | HeadPlan, bounds: Tensor | None) -> Tensor:
        x_BND = self.attention_norm(x_BND + self.dropout(self.attention(x_BND, plan, bounds)))
        return self.ffn_norm(x_BND + self.dropout(self.ffn(x_BND)))


class PostNormAttention(nn.Module):
    """Multi-head self-attention without positions of its own; see `PostNormConfig`."""

    at: Tensor

    def __init__(self, config: PostNormConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads, self.backend = config.heads, config.backend
        self.global_tokens = config.global_tokens
        self.project_in = Linear(dim, 3 * dim, bias=config.bias)
        self.project_out = Linear(dim, dim)
        if self.global_tokens:
            self.global_query = nn.Linear(dim, dim, bias=config.bias)
            self.global_key_value = nn.Linear(dim, 2 * dim, bias=config.bias)
            # where they are, on the model's device: sent in each call a GPU would be waited for
            self.register_buffer("at", torch.tensor(self.global_tokens), persistent=False)

    def forward(self, x_BND: Tensor, plan: Plan | HeadPlan, bounds: Tensor | None) -> Tensor:
        q_BHND, k_BHND, v_BHND = self._split(self.project_in(x_BND), 3)
        out_BHND = attend(q_BHND, k_BHND, v_BHND, plan, bounds, backend=self.backend)
        if self.global_tokens:
            rows_BHGD = self._global_rows(x_BND, self.at, bounds)
            out_BHND = out_BHND.index_copy(2, self.at, rows_BHGD)
        return self.project_out(out_BHND.transpose(1, 2).flatten(2))

    def _global_rows(self, x_BND: Tensor, at: Tensor, bounds: Tensor | None) -> Tensor:
        """The rows `at` over all keys, with the projections that are theirs."""
        (q_BHGD,) = self._split(self.global_query(x_BND[:, at]), 1)
        rows = None if bounds is None else bounds[:, at]
        fewer = self.heads * len(at) < x_BND.shape[-1]
        # autocast has other types in projections; kernels of a GPU have no heads so wide
        if fewer and x_BND.device.type == "cpu" and x_BND.dtype == q_BHGD.dtype:
            return self._folded_rows(q_BHGD, x_BND, rows)
        k_BHND, v_BHND = self._split(self.global_key_value(x_BND), 2)
        return self._attended(q_BHGD, k_BHND, v_BHND, rows)

    def _folded_rows(self, q_BHGD: Tensor, x_BND: Tensor, rows: Tensor | None) -> Tensor:
        """Few queries meet the tokens themselves, q (W x) = (q W) x, so that no key or value is
        made. A key's bias moves all scores of a row alike, so it isn't there."""
        key_HDC, value_HDC = self.global_key_value.weight.unflatten(0, (2, self.heads, -1))
        asked_BHGC = q_BHGD @ key_HDC * math.sqrt(x_BND.shape[-1] / q_BHGD.shape[-1])
        asked_B1QC, tokens_B1NC = asked_BHGC.flatten(1, 2).unsqueeze(1), x_BND.unsqueeze(1)
        rows = None if rows is None else rows.repeat(1, self.heads, 1)
        mixed_B1QC = self._attended(asked_B1QC, tokens_B1NC, tokens_B1NC, rows)
        mixed_BHGC = mixed_B1QC.squeeze(1).unflatten(1, (self.heads, -1))
        out_BHGD = mixed_BHGC @ value_HDC.mT
        if self.global_key_value.bias is None:
            return out_BHGD
        return out_BHGD + self.global_key_value.bias.unflatten(0, (2, self.heads, 1, -1))[1]

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None) -> Tensor:
        plan = Dense().plan(range(q.shape[2]), range(k.shape[2]))
        return attend(q, k, v, plan, rows, backend=self.backend)

    def _split(self, projected: Tensor, count: int) -> tuple[Tensor, ...]:
        """`count` tensors [B, H, N, D] of [B, N, count * dim]."""
        heads = projected.unflatten(-1, (count * self.heads, -1)).transpose(1, 2)
        return heads.split(self.heads, dim=1)
