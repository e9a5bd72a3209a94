"""What benchmarks/encoders.py lets run against each other: encoders of one size on one input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel

from core.attention import Window
from core.model import EncoderConfig, SparseEncoder
from core.model.from_transformers import from_bigbird, from_longformer
from core.model.linear import FeedForward, Linear

LINEAR = "linear"
RADIUS = 256  # tokens on either side; Longformer's attention_window is both, 512


@dataclass(frozen=True)
class Size:
    """Of every encoder compared."""

    layers: int = 4
    dim: int = 256
    heads: int = 8
    hidden: int = 1024
    radius: int = RADIUS
    sparse: tuple[int, ...] = (4096, 16384)
    dense: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)

    def contests(self) -> Iterator[tuple[str, int]]:
        """Names in CONTESTS, and lengths."""
        lengths = {"longformer": self.sparse, "bigbird": self.sparse, "dense": self.dense}
        yield from ((kind, n) for kind, some in lengths.items() for n in some)


QUICK = Size(layers=1, dim=32, heads=2, hidden=64, radius=32, sparse=(768,), dense=(256, 512))


@dataclass(frozen=True)
class Contest:
    """Two encoders for one input, and the linear layers of ours. `same` says that both encoders
    must give the same output."""

    pattern: str
    n: int
    rival: str
    models: dict[str, nn.Module]
    inputs: tuple[Any, ...]
    same: bool


def longformer(size: Size, n: int) -> Contest:
    """The first token is global, as a classifier has it."""
    config = LongformerConfig(
        **_shared(size),
        attention_window=2 * size.radius,
        max_position_embeddings=n + 2,
        pad_token_id=1,
    )
    theirs = LongformerModel(config, add_pooling_layer=False)
    ours, tokens = from_longformer(theirs, (0,)), _tokens(n)
    mask = torch.zeros_like(tokens).index_fill(1, torch.tensor([0]), 1)
    rival = _Theirs(theirs, global_attention_mask=mask)
    models = {"hf_longformer": rival, "ours": ours, LINEAR: _Linear(size, n)}
    name = f"longformer, radius {size.radius}, 1 global token"
    return Contest(name, n, "hf_longformer", models, (tokens,), same=True)


def bigbird(size: Size, n: int) -> Contest:
    """In training mode: out of it transformers' random blocks are all block 0."""
    config = BigBirdConfig(
        **_shared(size), max_position_embeddings=n, attention_type="block_sparse"
    )
    theirs = BigBirdModel(config, add_pooling_layer=False).train()
    ours = from_bigbird(theirs, n)
    models = {"hf_bigbird": _Theirs(theirs), "ours": ours, LINEAR: _Linear(size, n)}
    name = f"bigbird, blocks of {config.block_size}, {config.num_random_blocks} random"
    return Contest(name, n, "hf_bigbird", models, (_tokens(n),), same=True)


def dense(size: Size, n: int) -> Contest:
    """PyTorch's pre-norm encoder through fused attention, against ours with a window."""
    layer = nn.TransformerEncoderLayer(
        size.dim, size.heads, size.hidden, 0.0, "gelu", batch_first=True, norm_first=True
    )
    theirs = nn.TransformerEncoder(
        layer, size.layers, nn.LayerNorm(size.dim), enable_nested_tensor=False
    )
    ours = SparseEncoder(
        EncoderConfig(
            dim=size.dim,
            layers=size.layers,
            heads=size.heads,
            ffn=size.hidden // size.dim,
            pattern=Window(size.radius),
        )
    )
    models = {"torch_dense": theirs, "ours": ours, LINEAR: _Linear(size, n)}
    x_BND = torch.randn(1, n, size.dim)
    return Contest(f"window, radius {size.radius}", n, "torch_dense", models, (x_BND,), same=False)


CONTESTS = {"longformer": longformer, "bigbird": bigbird, "dense": dense}


class _Theirs(nn.Module):
    """A model of transformers as a function of tokens to encoded tokens."""

    def __init__(self, model: nn.Module, **masks: Tensor) -> None:
        super().__init__()
        self.model, self.masks = model, masks

    def forward(self, tokens: Tensor) -> Tensor:
        masks = {name: mask.to(tokens.device) for name, mask in self.masks.items()}
        return self.model(tokens, **masks).last_hidden_state


class _Linear(nn.Module):
    """The linear layers of ours and their activation, one after another, whatever the input."""

    def __init__(self, size: Size, n: int) -> None:
        super().__init__()
        self.x_ND = nn.Parameter(torch.randn(n, size.dim))
        self.layers = nn.Sequential()
        for _ in range(size.layers):
            self.layers.extend(Linear(size.dim, size.dim) for _ in range(4))
            self.layers.append(FeedForward(size.dim, size.hidden, nn.GELU()))

    def forward(self, _: Tensor) -> Tensor:
        return self.layers(self.x_ND)


def _shared(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": 100,
        "hidden_size": size.dim,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
        "initializer_range": 0.2,  # far from uniform attention, so that comparing outputs tells
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _tokens(n: int) -> Tensor:
    return torch.randint(2, 100, (1, n))
