"""transformers' Longformer and ours, loaded with the same weights, are the same function."""

import pytest
import torch
from torch import nn
from transformers import LongformerConfig, LongformerForMaskedLM, LongformerModel

from core.errors import ConfigError
from core.model.from_transformers import from_longformer
from tests.core.model.parity import TINY, Batch, assert_drop_alike, assert_same, batch

PAD = 1
GLOBALS = {"none": (), "first": (0,), "scattered": (3, 40, 41, 88)}


@pytest.fixture
def exact(monkeypatch):
    """Their softmax in the dtype of its input; they always take float32."""
    softmax = nn.functional.softmax
    monkeypatch.setattr(
        nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim=dim, dtype=x.dtype)
    )


def longformer(windows: list[int] | int, dtype: torch.dtype, seed: int = 0, **kwargs):
    torch.manual_seed(seed)
    config = LongformerConfig(
        **TINY | kwargs, attention_window=windows, max_position_embeddings=200, pad_token_id=PAD
    )
    return LongformerModel(config, add_pooling_layer=False).to(dtype).train()


def their_forward(model: nn.Module, given: Batch, global_tokens: tuple[int, ...]):
    mask = torch.zeros_like(given.tokens)
    mask[:, list(global_tokens)] = 1
    return lambda: (
        model(
            given.tokens, attention_mask=given.real.long(), global_attention_mask=mask
        ).last_hidden_state
    )


@pytest.mark.parametrize("global_tokens", GLOBALS.values(), ids=GLOBALS)
@pytest.mark.parametrize("padded", [0, 21])
def test_outputs_and_gradients_equal_in_double(exact, global_tokens, padded):
    theirs, given = longformer([8, 16], torch.float64), batch(111, padded, PAD)
    run = their_forward(theirs, given, global_tokens)
    assert_same(theirs, run, from_longformer(theirs, global_tokens), given, 1e-8)


@pytest.mark.parametrize("global_tokens", GLOBALS.values(), ids=GLOBALS)
def test_outputs_and_gradients_equal_in_single(global_tokens):
    theirs, given = longformer(16, torch.float32), batch(96, 7, PAD)
    run = their_forward(theirs, given, global_tokens)
    assert_same(theirs, run, from_longformer(theirs, global_tokens), given, 1e-4)


@pytest.mark.parametrize("padded", [0, 21])
def test_runs_under_bfloat16_autocast(padded):
    ours, given = from_longformer(longformer(16, torch.float32), (0,)), batch(96, padded, PAD)
    with torch.no_grad():
        expected = ours(given.tokens, given.real)
        with torch.autocast("cpu", torch.bfloat16):
            found = ours(given.tokens, given.real)
    torch.testing.assert_close(found[given.real], expected[given.real], rtol=0.1, atol=0.1)


def test_the_pattern_alone_is_longformer_where_global_projections_equal_the_local_ones(exact):
    theirs, given = longformer(16, torch.float64), batch(96, 7, PAD)
    for layer in theirs.encoder.layer:
        attention = layer.attention.self
        for name in ("query", "key", "value"):
            getattr(attention, f"{name}_global").load_state_dict(
                getattr(attention, name).state_dict()
            )
    expected = their_forward(theirs, given, (3, 40))()
    ours = from_longformer(theirs, (3, 40))
    for layer in ours.layers:
        layer.attention.global_tokens = ()
    found = ours(given.tokens, given.real)
    torch.testing.assert_close(found[given.real], expected[given.real], rtol=1e-8, atol=1e-8)


def test_padding_before_the_tokens_takes_their_positions(exact):
    theirs, whole = longformer(16, torch.float64), batch(96, 0, PAD)
    real = whole.real.clone()
    real[1, :20] = False
    given = Batch(whole.tokens.masked_fill(~real, PAD), real)
    positions = (real.cumsum(1) * real) + PAD
    found = from_longformer(theirs)(given.tokens, real, positions)
    expected = their_forward(theirs, given, ())()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-8, atol=1e-8)


def test_the_other_activations_are_carried_over(exact):
    for activation in ("relu", "gelu_new", "silu"):
        theirs = longformer(16, torch.float64, hidden_act=activation)
        given = batch(32, 3, PAD)
        run = their_forward(theirs, given, (0,))
        assert_same(theirs, run, from_longformer(theirs, (0,)), given, 1e-8)


def test_a_model_keeps_its_mode_and_dropout():
    theirs = longformer(16, torch.float32)
    theirs.config.hidden_dropout_prob = 0.25
    assert from_longformer(theirs).training and from_longformer(theirs).dropout.p == 0.25
    assert not from_longformer(theirs.eval()).training


def test_places_of_global_tokens_are_on_the_model_s_device_and_in_no_file():
    ours = from_longformer(longformer(16, torch.float32), (0, 3))
    assert not any(name.endswith("at") for name in ours.state_dict())
    assert {buffer.device.type for buffer in ours.to("meta").buffers()} == {"meta"}


def test_dropout_falls_where_theirs_does(exact):
    theirs = longformer(16, torch.float64, hidden_dropout_prob=0.25)
    given = batch(32, 0, PAD)
    assert_drop_alike(from_longformer(theirs, (0,)), given, their_forward(theirs, given, (0,)))


def test_what_is_no_longformer_encoder_is_refused():
    config = LongformerConfig(**TINY, attention_window=16, max_position_embeddings=200)
    with pytest.raises(ConfigError, match="got LongformerForMaskedLM of type 'longformer'"):
        from_longformer(LongformerForMaskedLM(config))
    with pytest.raises(ConfigError, match="got Linear of type None"):
        from_longformer(nn.Linear(2, 2))
    model = longformer(16, torch.float32)
    model.config.hidden_act = "mish"
    with pytest.raises(ConfigError, match="hidden_act: got 'mish'"):
        from_longformer(model)


def test_too_many_tokens_are_refused():
    ours = from_longformer(longformer(16, torch.float32))
    assert ours(torch.zeros(1, 198, dtype=torch.int64)).shape == (1, 198, 16)
    with pytest.raises(ConfigError, match="got a length of 199, expected at most 198"):
        ours(torch.zeros(1, 199, dtype=torch.int64))
