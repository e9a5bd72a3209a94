"""Attention whose gradient is differentiated: a refusal, never a gradient that lacks terms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.attention import TopK, Window, attend, bigbird
from core.errors import ConfigError
from tests.core.attention.helpers import assert_same, gradients, inputs

N = 70


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("of", range(3), ids="qkv")
@pytest.mark.parametrize("power", [1, 2], ids=["linear", "square"])
@pytest.mark.parametrize("pattern", [Window(5), bigbird(8, 1, (0,)), TopK(2, block=8)], ids=repr)
def test_a_second_derivative_of_attention_is_refused(
    pattern: Window, power: int, of: int, dtype: torch.dtype
) -> None:
    q, k, v = inputs(N, dtype=dtype, size=16)
    out = attend(q, k, v, pattern.plan(range(N), range(N)), backend="cpu")
    loss = out.pow(power).sum()
    (slope,) = torch.autograd.grad(loss, (q, k, v)[of], create_graph=True)
    with pytest.raises(ConfigError, match="attention on CPU: got a derivative of its gradient"):
        (loss + slope.square().sum()).backward()


def test_the_reference_has_second_derivatives() -> None:
    q, k, v = inputs(9, batch=1, size=2)
    plan = Window(2).plan(range(9), range(9))

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, plan, backend="reference")

    assert torch.autograd.gradgradcheck(attention, (q, k, v))


def test_gradients_with_a_graph_are_those_without() -> None:
    """Where nobody differentiates them, nothing is refused."""
    q, k, v = inputs(N)
    plan = Window(5).plan(range(N), range(N))
    out = attend(q, k, v, plan, backend="cpu")
    expected = gradients(attend(q, k, v, plan, backend="cpu"), [q, k, v])
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert_same(
        list(torch.autograd.grad((out * weight).sum(), (q, k, v), create_graph=True)), expected
    )
    (found,) = torch.autograd.grad((attend(q, k, v, plan, backend="cpu") * weight).sum(), (q,))
    assert found.grad_fn is None
