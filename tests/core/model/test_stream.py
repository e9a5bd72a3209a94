"""Encoding a stream in chunks against one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.attention import Causal, Fixed, HeadGroups, Pattern, StreamState, Window, longformer
from core.errors import ConfigError
from core.model import EncoderConfig, EncoderStream, SparseEncoder

PATTERNS = {
    "window": Window(9) & Causal(),
    "longformer": longformer(6, (0, 30), causal=True),
    "fixed": Fixed(8, 2) & Causal(),
    "causal": Causal(),
    "heads": HeadGroups(((Window(9), 1), (longformer(6, (0, 30)), 1))) & Causal(),
}
SHARED = {"heads": 4, "kv_heads": 2, "pattern": PATTERNS["heads"]}
SMALL = EncoderConfig(dim=16, layers=3, heads=2, pattern=PATTERNS["window"], block=8)


def encoder(dtype: torch.dtype = torch.float64, **options: Any) -> SparseEncoder:
    torch.manual_seed(0)
    return SparseEncoder(replace(SMALL, **options)).to(dtype).eval()


def tokens(n: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, n, 16, generator=generator, dtype=torch.float64).to(dtype)


def streamed(
    stream: EncoderStream,
    x: Tensor,
    sizes: list[int],
    positions: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    outs, at = [], 0
    while at < x.shape[1]:
        for size in sizes:
            now = slice(at, min(at + size, x.shape[1]))
            places = None if positions is None else positions[..., now]
            outs.append(stream.encode(x[:, now], places, start))
            at = now.stop
    return torch.cat(outs, 1)


@pytest.mark.parametrize("sizes", [[1], [7, 1, 20], [90]], ids=repr)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_chunks_equal_one_pass(pattern: Pattern, sizes: list[int]) -> None:
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        model, x = encoder(dtype, pattern=pattern), tokens(83, dtype=dtype)
        out = streamed(EncoderStream(model), x, sizes)
        torch.testing.assert_close(out, model(x).detach(), rtol=close, atol=close)


@pytest.mark.parametrize("options", [{"kv_heads": 1}, SHARED], ids=["one", "groups"])
def test_every_option_and_given_times_equal_one_pass(options: dict[str, Any]) -> None:
    model = encoder(**options, norm="rms", activation="swiglu", checkpoint=True)
    x = tokens(60)
    times = (torch.rand(2, 60, dtype=torch.float64) * 9).cumsum(1) + 1.7e9
    out = streamed(EncoderStream(model), x, [7, 1], times)
    torch.testing.assert_close(out, model(x, positions=times).detach(), rtol=1e-9, atol=1e-9)


def test_a_sequence_that_starts_later_equals_padding_before() -> None:
    model, x = encoder(), tokens(50)
    padding = torch.arange(50) >= torch.tensor([[0], [23]])
    out = streamed(EncoderStream(model), x, [6, 1], start=torch.tensor([0, 23]))
    expected = model(x, padding).detach()
    torch.testing.assert_close(out[padding], expected[padding], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_saved_stream_goes_on_with_the_same_bits(pattern: Pattern) -> None:
    model, x = encoder(torch.float32, pattern=pattern), tokens(90, dtype=torch.float32)
    stream = EncoderStream(model)
    streamed(stream, x[:, :47], [20, 1])
    other = EncoderStream.from_bytes(model, stream.to_bytes())
    assert other.seen == 47
    rest = [streamed(some, x[:, 47:], [1, 8]) for some in (stream, other)]
    assert torch.equal(*rest)


def test_memory_stays_bounded() -> None:
    stream = EncoderStream(encoder())
    streamed(stream, tokens(40), [1])
    early = len(stream.to_bytes())
    streamed(stream, tokens(400), [1])
    assert len(stream.to_bytes()) <= early + 100


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"& Causal\(\)"):
        EncoderStream(encoder(pattern=Window(5)))
    model = encoder()
    stream = EncoderStream(model)
    with pytest.raises(ConfigError, match=r"encoder\.eval"):
        EncoderStream(encoder().train()).encode(tokens(4))
    stream.encode(tokens(4))
    with pytest.raises(ConfigError, match="as in the first chunk"):
        stream.encode(tokens(4, batch=1))
    for other in (encoder(layers=2), encoder(pattern=Causal())):
        with pytest.raises(ConfigError, match="the encoder it came from"):
            EncoderStream.from_bytes(other, stream.to_bytes())
    with pytest.raises(ConfigError, match="expected 'encoder stream'"):
        EncoderStream.from_state_dict(model, StreamState(Causal()).state_dict())
