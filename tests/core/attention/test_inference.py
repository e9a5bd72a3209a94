"""What a call in `torch.inference_mode` leaves behind: nothing that a call outside trips over."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

from core.attention import (
    Causal,
    KeyedStreamState,
    Pattern,
    StreamState,
    Window,
    attend,
    bigbird,
    keyed_attend,
    keyed_index,
)
from core.attention.backends.scratch import _scratch
from core.attention.plan import build_plan
from core.model import EncoderConfig, EncoderStream, SparseEncoder
from tests.core.attention.helpers import assert_same, inputs
from tests.core.attention.test_exact import KINDS, each_kind, packed_and_padded, run, some_empty
from tests.core.attention.test_keyed import leaves, stream
from tests.core.attention.test_stream import CAUSAL, one_pass

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
    q, k, v = (x.detach() for x in inputs(N, dtype=torch.float32, size=16))
    limits = (None, packed_and_padded(N), some_empty(N))
    for pattern in KINDS.values():
        with torch.inference_mode():
            plan = pattern.plan(range(N), range(N))
            for bounds in limits:
                attend(q, k, v, plan, bounds, backend=backend)
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


SIZES = [7, 1, 30, 1, 1, 60]


def mode(at: int) -> AbstractContextManager[None]:
    """Every other chunk in inference mode, the first among them."""
    return torch.inference_mode(at % 2 == 0)


@pytest.mark.parametrize("name", ["window-causal", "fixed-causal", "topk", "heads", "causal"])
def test_a_stream_begun_in_inference_mode_goes_on_outside(name: str) -> None:
    q, k, v = (x.detach() for x in inputs(100, batch=1))
    state, outs = StreamState(CAUSAL[name]), list[Tensor]()
    for at, chunk in enumerate(zip(*(x.split(SIZES, 2) for x in (q, k, v)), strict=True)):
        with mode(at):
            outs.append(state.attend(*chunk))
            if at == 2:  # as from a file
                state = StreamState.from_bytes(state.to_bytes())
    assert_same([torch.cat(outs, 2)], [one_pass(CAUSAL[name], q, k, v)])


@pytest.mark.parametrize("window", [3, None])
def test_a_keyed_stream_begun_in_inference_mode_goes_on_outside(window: int | None) -> None:
    (q, k, v), (keys, times) = (x.detach() for x in leaves(3, 100)), stream(100)
    state, outs = KeyedStreamState(window), list[Tensor]()
    chunks = (*(x.split(SIZES, 1) for x in (q, k, v)), keys.split(SIZES), times.split(SIZES))
    for at, chunk in enumerate(zip(*chunks, strict=True)):
        with mode(at):
            outs.append(state.attend(*chunk))
            if at == 2:
                state = KeyedStreamState.from_bytes(state.to_bytes())
    expected = keyed_attend(q, k, v, keyed_index(keys, times, window))
    assert_same([torch.cat(outs, 1)], [expected])


def test_a_stream_of_an_encoder_begun_in_inference_mode_goes_on_outside() -> None:
    torch.manual_seed(0)
    pattern = Window(9) & Causal()
    config = EncoderConfig(dim=32, layers=2, heads=2, pattern=pattern)
    encoder = SparseEncoder(config).double().eval()
    x, outs = torch.randn(1, 100, 32, dtype=torch.float64), list[Tensor]()
    encoded = EncoderStream(encoder)
    for at, chunk in enumerate(x.split(SIZES, 1)):
        with mode(at):
            outs.append(encoded.encode(chunk))
    assert_same([torch.cat(outs, 1)], [encoder(x)])
