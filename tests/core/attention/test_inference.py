"""What a call in `torch.inference_mode` leaves behind: nothing that a call outside trips over."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from core.attention import Pattern, attend, bigbird
from core.attention.backends.scratch import _scratch
from core.attention.plan import build_plan
from core.model.encoder import EncoderConfig, SparseEncoder
from tests.core.attention.helpers import inputs
from tests.core.attention.test_exact import KINDS, each_kind, packed_and_padded, run, some_empty

N = 300


def start_afresh() -> None:
    """As in a process of its own: no plan and no buffer is there yet."""
    build_plan.cache_clear()
    _scratch.buffers.clear()


def inference_tensors() -> list[Tensor]:
    gc.collect()
    return [x for x in gc.get_objects() if type(x) is Tensor and x.is_inference()]


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 4), (torch.float32, 16)])
@each_kind
def test_training_after_inference_is_as_without(
    pattern: Pattern, dtype: torch.dtype, size: int
) -> None:
    for bounds in (None, packed_and_padded(N), some_empty(N)):
        given = inputs(N, dtype=dtype, size=size)
        start_afresh()
        expected = run(*given, pattern.plan(range(N), range(N)), bounds, "cpu")
        start_afresh()
        with torch.inference_mode():
            plan = pattern.plan(range(N), range(N))
            out = attend(*given, plan, bounds, backend="cpu")
        found = run(*given, plan, bounds, "cpu")
        assert torch.equal(out, expected[0])
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_no_tensor_of_inference_mode_outlives_its_call(backend: str) -> None:
    start_afresh()
    given = [x.detach() for x in inputs(N, dtype=torch.float32, size=16)]
    limits = (None, packed_and_padded(N), some_empty(N))
    for pattern in KINDS.values():
        with torch.inference_mode():
            plan = pattern.plan(range(N), range(N))
            for bounds in limits:
                attend(*given, plan, bounds, backend=backend)
    assert not inference_tensors()


def test_an_encoder_trains_after_an_evaluation_in_inference_mode() -> None:
    torch.manual_seed(0)
    encoder = SparseEncoder(EncoderConfig(dim=32, layers=2, heads=2, pattern=bigbird(8, 3, (0,))))
    x = torch.randn(1, 257, 32)
    start_afresh()
    with torch.inference_mode():
        evaluated = encoder.eval()(x)
    trained = encoder.train()(x)
    torch.testing.assert_close(trained, evaluated)
    trained.sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())
