"""A scale of scores that is given: any number, 0 and negative ones too, against the reference."""

from __future__ import annotations

import pytest
import torch

from core.attention import Causal, Pattern, StreamState, attend
from tests.core.attention.helpers import assert_same, gradients, inputs
from tests.core.attention.test_exact import BOTH_WAYS, each_kind, packed_and_padded, some_empty

SCALES = [-0.5, 0.0, 0.3, 2.0]
N = 111


@pytest.mark.parametrize(
    ("dtype", "size", "close"), [(torch.float64, 4, 1e-9), (torch.float32, 16, 2e-4)]
)
@each_kind
def test_any_scale_gives_the_reference(
    pattern: Pattern, dtype: torch.dtype, size: int, close: float
) -> None:
    plan = pattern.plan(range(N), range(N))
    given = inputs(N, dtype=dtype, size=size)
    q, k, v = (x.detach().double().requires_grad_() for x in given)
    for bounds in (None, packed_and_padded(N), some_empty(N)):
        for scale in SCALES:
            out, lse = attend(
                q, k, v, plan, bounds, backend="reference", scale=scale, return_lse=True
            )
            expected = [out, lse, *gradients(out, [q, k, v])]
            out, lse = attend(*given, plan, bounds, backend="cpu", scale=scale, return_lse=True)
            found = [x.double() for x in (out, lse, *gradients(out, [*given]))]
            assert_same(found, expected, close)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pattern", BOTH_WAYS.values(), ids=BOTH_WAYS.keys())
def test_a_stream_takes_any_scale(pattern: Pattern, scale: float) -> None:
    pattern = pattern & Causal()
    q, k, v = (x.detach() for x in inputs(N, batch=1))
    plan = pattern.plan(range(N), range(N))
    expected = attend(q, k, v, plan, scale=scale, backend="reference")
    state = StreamState(pattern)
    chunks = zip(*(x.split([1, 1, 40, 7, 1, 61], 2) for x in (q, k, v)), strict=True)
    found = [state.attend(*chunk, scale=scale) for chunk in chunks]
    assert_same([torch.cat(found, 2)], [expected])
