"""An encoder of transformers and ours on the same weights, tokens and loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.model.from_transformers import renamed
from core.model.post_norm import PostNormEncoder

TINY = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,  # large, so that attention is far from uniform
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@dataclass
class Batch:
    """Tokens [2, n], the second sequence `padded` tokens shorter, as ids and as mask."""

    tokens: Tensor
    real: Tensor


def batch(n: int, padded: int, pad_id: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 100, (2, n), generator=draw)
    real = torch.ones(2, n, dtype=torch.bool)
    real[1, n - padded :] = False
    return Batch(tokens.masked_fill(~real, pad_id), real)


def assert_same(
    theirs: nn.Module, run: Callable[[], Tensor], ours: PostNormEncoder, given: Batch, close: float
) -> None:
    """Outputs at real tokens and the gradients of every weight agree; `run` is their forward."""
    padding = None if given.real.all() else given.real
    expected, found = run(), ours(given.tokens, padding)
    draw = torch.Generator().manual_seed(1)
    weights = torch.randn(expected.shape, generator=draw).to(expected) * given.real[..., None]
    torch.testing.assert_close(found[given.real], expected[given.real], rtol=close, atol=close)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    their_gradients = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    expected_gradients = renamed(their_gradients, ours.config)
    found_gradients = {n: p.grad for n, p in ours.named_parameters()}
    assert found_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        scale = gradient.abs().max().item()
        assert scale > 1e-6, f"{name} has no gradient to compare"
        torch.testing.assert_close(
            found_gradients[name], gradient, rtol=close, atol=close * max(1.0, scale), msg=name
        )


def assert_drop_alike(ours: PostNormEncoder, given: Batch, run: Callable[[], Tensor]) -> None:
    """With the same draws of dropout both give the same; `run` is their forward."""
    assert ours.training and ours.config.dropout
    found: list[Tensor] = []
    for forward in (run, lambda: ours(given.tokens)):
        torch.manual_seed(0)
        found.append(forward())
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)
