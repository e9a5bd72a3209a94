"""The encoder, its attention module and rotary positions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from core.attention import (
    Causal,
    Dense,
    LogSparse,
    Pattern,
    Strided,
    TopK,
    Window,
    bigbird,
    longformer,
)
from core.attention.backends.scratch import _scratch
from core.errors import ConfigError
from core.model import EncoderConfig, SparseAttention, SparseEncoder, rotate
from core.model.block import ACTIVATIONS, SwiGLU, feed_forward

SMALL = EncoderConfig(dim=16, layers=2, heads=2, pattern=Window(5), block=8)


def encoder(config: EncoderConfig = SMALL) -> SparseEncoder:
    torch.manual_seed(0)
    return SparseEncoder(config).double().eval()


def tokens(batch: int, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, n, 16, generator=generator, dtype=torch.float64)


def test_rotary_products_depend_on_the_difference_of_positions() -> None:
    q, k = torch.randn(2, 1, 1, 6, 8, dtype=torch.float64)
    at = torch.tensor([0.0, 0.5, 3.0, 7.0, 100.0, 1e6], dtype=torch.float64)
    here = rotate(q, at) @ rotate(k, at).transpose(-1, -2)
    there = rotate(q, at + 1234.0) @ rotate(k, at + 1234.0).transpose(-1, -2)
    torch.testing.assert_close(here, there, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(rotate(q, at).norm(dim=-1), q.norm(dim=-1))


def test_rotary_keeps_seconds_since_1970_apart_in_float32() -> None:
    x = torch.ones(1, 1, 2, 8)
    turned = rotate(x, torch.tensor([1.7e9, 1.7e9 + 1], dtype=torch.float64))[0, 0]
    near = rotate(x, torch.tensor([0.0, 1.0], dtype=torch.float64))[0, 0]
    torch.testing.assert_close(turned[0] @ turned[1], near[0] @ near[1])


def test_rotary_takes_positions_of_each_sequence() -> None:
    x, at = torch.randn(2, 3, 5, 8), torch.rand(2, 5) * 50
    both = rotate(x, at)
    for row in range(2):
        torch.testing.assert_close(both[row], rotate(x[row : row + 1], at[row])[0])


@pytest.mark.parametrize("pattern", [Window(5), longformer(4, (0,)), Causal(), Dense()], ids=repr)
def test_padded_batch_equals_each_sequence_alone(pattern) -> None:
    model = encoder(EncoderConfig(dim=16, layers=2, heads=2, pattern=pattern, block=8))
    x, lengths = tokens(3, 40), (40, 23, 1)
    padding = torch.arange(40) < torch.tensor(lengths)[:, None]
    out = model(x.masked_fill(~padding[..., None], 7.0), padding)
    for row, length in enumerate(lengths):
        alone = model(x[row : row + 1, :length])
        torch.testing.assert_close(out[row, :length], alone[0], rtol=1e-9, atol=1e-9)


def test_padding_in_front_equals_none_with_the_same_positions() -> None:
    model, x = encoder(), tokens(1, 30)
    padding = torch.arange(30)[None] >= 7
    out = model(x, padding)[:, 7:]
    alone = model(x[:, 7:], positions=torch.arange(7, 30))
    torch.testing.assert_close(out, alone, rtol=1e-9, atol=1e-9)


def test_padding_gets_no_gradient_from_real_tokens() -> None:
    model, x = encoder(), tokens(2, 20).requires_grad_()
    padding = torch.arange(20)[None].expand(2, -1) < 12
    (grad,) = torch.autograd.grad(model(x, padding)[padding].sum(), x)
    assert bool((grad[~padding] == 0).all()) and bool((grad[padding] != 0).any())


def test_padding_with_a_gap_is_refused() -> None:
    padding = torch.tensor([[True] * 10, [True] * 4 + [False] + [True] * 5])
    with pytest.raises(ConfigError, match="sequence 1"):
        encoder()(tokens(2, 10), padding)
    with pytest.raises(ConfigError, match=r"expected torch\.bool"):
        encoder()(tokens(2, 10), padding.int())


def test_a_token_reaches_no_further_than_layers_times_reach() -> None:
    model, x = encoder(), tokens(1, 60).requires_grad_()
    (grad,) = torch.autograd.grad(model(x)[0, 30].square().sum(), x)
    seen = grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert (seen[0], seen[-1]) == (30 - 2 * 5, 30 + 2 * 5)


def test_every_parameter_learns() -> None:
    model = SparseEncoder(EncoderConfig(dim=16, layers=2, heads=2, dropout=0.1))
    model(tokens(2, 70).float())[..., 0].square().sum().backward()
    # adding one vector to every key leaves a softmax as it was, so that bias has gradient 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_runs_under_bfloat16_autocast() -> None:
    model, x = encoder().float(), tokens(2, 50).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    out.float().sum().backward()
    torch.testing.assert_close(out.float(), model(x), rtol=0.1, atol=0.1)


OPTIONS = [
    {"kv_heads": 1},
    {"norm": "rms"},
    {"activation": "swiglu"},
    {"norm": "rms", "activation": "swiglu", "kv_heads": 1, "stochastic_depth": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_every_option_runs_and_pads_like_the_plain_encoder(options: dict[str, Any]) -> None:
    model = encoder(replace(SMALL, **options))
    x, padding = tokens(2, 30), torch.arange(30)[None].expand(2, -1) < 21
    alone = model(x[:, :21])
    torch.testing.assert_close(model(x, padding)[:, :21], alone, rtol=1e-9, atol=1e-9)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_shared_keys_equal_an_encoder_with_the_keys_copied() -> None:
    shared = encoder(replace(SMALL, heads=4, kv_heads=2))
    full = encoder(replace(SMALL, heads=4))
    saved = shared.state_dict()
    for name in [name for name in saved if "attention.project_in" in name]:
        q, k, v = saved[name].split((16, 8, 8))
        k, v = (x.unflatten(0, (2, 4)).repeat_interleave(2, 0).flatten(0, 1) for x in (k, v))
        saved[name] = torch.cat((q, k, v))
    full.load_state_dict(saved)
    torch.testing.assert_close(shared(tokens(2, 30)), full(tokens(2, 30)), rtol=1e-9, atol=1e-9)


def test_rms_norm_keeps_the_mean_and_layer_norm_does_not() -> None:
    x = tokens(1, 5) + 3
    rms, layer = (encoder(replace(SMALL, norm=norm)).norm for norm in ("rms", "layer"))
    assert float(rms(x).mean().detach()) > 0.5 and abs(float(layer(x).mean().detach())) < 1e-9


def test_swiglu_has_the_definition_and_size_of_its_paper() -> None:
    layer, x = feed_forward(12, 48, "swiglu").double(), tokens(1, 4)[..., :12]
    assert isinstance(layer, SwiGLU)
    gate, up = layer.project_in(x).split(32, -1)
    torch.testing.assert_close(layer(x), layer.project_out(gate * gate.sigmoid() * up))
    sizes = [sum(p.numel() for p in feed_forward(12, 48, a).parameters()) for a in ACTIVATIONS]
    assert abs(sizes[1] / sizes[0] - 1) < 0.03


def test_stochastic_depth_skips_whole_sequences_more_often_in_deep_blocks() -> None:
    model = encoder(replace(SMALL, layers=4, stochastic_depth=0.8)).train()
    assert [round(block.skip, 6) for block in model.blocks] == [0.2, 0.4, 0.6, 0.8]
    branch = torch.ones(4000, 3, 2, dtype=torch.float64)
    kept = model.blocks[1]._kept(branch)
    assert set(kept.unique().tolist()) == {0.0, 1 / 0.6}
    assert bool((kept == kept[:, :1, :1]).all()) and abs(float(kept.mean()) - 1) < 0.1
    assert torch.equal(model.eval().blocks[1]._kept(branch), branch)


def test_checkpointing_computes_again_and_gives_the_same_gradients() -> None:
    grads, calls = [], []
    for again in (False, True):
        model = encoder(replace(SMALL, dropout=0.3, checkpoint=again)).train()
        count: list[int] = []
        model.blocks[0].register_forward_pre_hook(lambda *_, count=count: count.append(1))
        torch.manual_seed(3)
        model(tokens(2, 40)).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
        calls.append(len(count))
    assert calls == [1, 2]
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-12, atol=1e-12)


def test_config_round_trips_through_json() -> None:
    config = EncoderConfig(dim=32, heads=2, dropout=0.1, pattern=longformer(8, (0, 5), causal=True))
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert EncoderConfig.from_dict({}) == EncoderConfig()


def test_unusable_configurations_say_why() -> None:
    with pytest.raises(ConfigError, match="multiple of 2"):
        EncoderConfig(dim=60, heads=8)
    with pytest.raises(ConfigError, match="multiple of 2"):
        SparseAttention(60, 8)
    with pytest.raises(ConfigError, match="dropout: got 1"):
        EncoderConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="expected one of"):
        EncoderConfig(backend="magic")
    with pytest.raises(ConfigError, match="kv_heads: got 3"):
        EncoderConfig(kv_heads=3)
    with pytest.raises(ConfigError, match="norm: got 'batch'"):
        EncoderConfig(norm="batch")
    with pytest.raises(ConfigError, match="activation: got 'tanh'"):
        EncoderConfig(activation="tanh")
    with pytest.raises(ConfigError, match="stochastic_depth: got 1"):
        EncoderConfig(stochastic_depth=1.0)
    with pytest.raises(ConfigError, match="unknown fields \\['depth'\\]"):
        EncoderConfig.from_dict({"depth": 3})


EVERYTHING = bigbird(6, 1, (0, 50)) | LogSparse() | Strided(16)


EXPORTED: dict[str, Pattern] = {
    "window": Window(5) & Causal(),
    "all": EVERYTHING,
    "topk": (Window(5) | TopK(2, block=16)) & Causal(),
}


@pytest.mark.parametrize("pattern", EXPORTED.values(), ids=EXPORTED)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_an_exported_encoder_gives_the_same_numbers(
    pattern: Pattern, used: bool, tmp_path: Path
) -> None:
    """In a process that has attended before, and in one that has not."""
    _scratch.buffers.clear()
    model = encoder(replace(SMALL, pattern=pattern, activation="swiglu", kv_heads=1))
    if used:
        model(tokens(2, 150))
    program = torch.export.export(model, (tokens(2, 150),))
    assert all(type(kept) is torch.Tensor for kept in _scratch.buffers.values())
    assert not any(value.numel() > 1 << 16 for value in program.constants.values())
    assert "flash_attention_for_cpu" in str(program.graph)
    torch.export.save(program, tmp_path / "encoder.pt2")
    other = tokens(4, 150)[2:]
    found = torch.export.load(tmp_path / "encoder.pt2").module()(other)
    torch.testing.assert_close(found, model(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pattern", [Window(5), EXPORTED["topk"]], ids=["window", "topk"])
def test_an_exported_encoder_takes_any_number_of_sequences(pattern: Pattern) -> None:
    model = encoder(replace(SMALL, pattern=pattern, kv_heads=1))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (tokens(2, 70),), dynamic_shapes=({0: batch},))
    for sequences in (1, 2, 9):
        x = tokens(sequences, 70) + sequences
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_an_exported_encoder_of_wide_layers_takes_any_number_of_sequences(activation: str) -> None:
    """Whether the faster layers are for so many rows is no question of a program."""
    config = EncoderConfig(dim=128, heads=2, layers=1, pattern=Window(5), activation=activation)
    model, batch = SparseEncoder(config).eval(), torch.export.Dim("batch")
    shape = (2, 512, 128)
    program = torch.export.export(model, (torch.zeros(shape),), dynamic_shapes=({0: batch},))
    for sequences in (1, 5):
        x = torch.randn(sequences, *shape[1:])
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"layers": 2.5}, r"layers: got 2\.5, expected an integer"),
        ({"rotary_base": 0.0}, r"rotary_base: got 0\.0, expected a number above 0"),
        ({"rotary_base": float("nan")}, "rotary_base: got nan"),
        ({"pattern": "window"}, "pattern: got 'window', expected one such as"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EncoderConfig(**options)


@pytest.mark.parametrize(
    "tokens, positions, said",
    [
        ((2, 50), None, r"tokens: got shape \(2, 50\), expected \[batch, tokens, 32\]"),
        ((2, 50, 16), None, r"tokens: got shape \(2, 50, 16\), expected"),
        ((2, 50, 32), (49,), r"positions: got shape \(49,\), expected \[50\] or \[2, 50\]"),
        ((1, 50, 32), (2, 50), r"positions: got shape \(2, 50\), expected \[50\] or \[1, 50\]"),
    ],
)
def test_tokens_and_positions_that_do_not_fit_are_refused(
    tokens: tuple[int, ...], positions: tuple[int, ...] | None, said: str
) -> None:
    encoder = SparseEncoder(EncoderConfig(dim=32, layers=1))
    given = None if positions is None else torch.zeros(positions)
    with pytest.raises(ConfigError, match=said):
        encoder(torch.zeros(tokens), positions=given)


def test_a_compiled_encoder_gives_the_same_numbers_and_gradients() -> None:
    """Attention stays as it is, between a few graphs."""
    torch._dynamo.reset()
    model, x = encoder(replace(SMALL, pattern=EVERYTHING)), tokens(2, 90)
    counter = CompileCounterWithBackend("aot_eager")
    found, expected = torch.compile(model, backend=counter)(x), model(x)
    weights = list(model.parameters())
    grads = [torch.autograd.grad(out.square().sum(), weights) for out in (found, expected)]
    for one, other in zip((found, *grads[0]), (expected, *grads[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert counter.frame_count <= 2 + 2 * SMALL.layers
