"""transformers' BigBird in training mode and ours, on the same weights, are the same function."""

import numpy as np
import pytest
import torch
from transformers import BigBirdConfig, BigBirdModel

from core.attention import Dense, HeadGroups
from core.errors import ConfigError
from core.model.from_transformers import from_bigbird
from tests.core.model.parity import TINY, Batch, assert_drop_alike, assert_same, batch

PAD = 0


def bigbird(dtype: torch.dtype, positions: int = 256, **kwargs) -> BigBirdModel:
    torch.manual_seed(0)
    shape = {**TINY, "block_size": 4, "num_random_blocks": 3, **kwargs}
    config = BigBirdConfig(**shape, max_position_embeddings=positions, pad_token_id=PAD)
    return BigBirdModel(config, add_pooling_layer=False).to(dtype).train()


def their_forward(model: BigBirdModel, given: Batch):
    mask = given.real.to(model.dtype)
    return lambda: model(given.tokens, attention_mask=mask).last_hidden_state


@pytest.mark.parametrize("n", [48, 100, 199], ids=["short", "blocks", "part of a block"])
@pytest.mark.parametrize("padded", [0, 21])
def test_outputs_and_gradients_equal_in_double(n, padded):
    theirs, given = bigbird(torch.float64), batch(n, padded, PAD)
    assert_same(theirs, their_forward(theirs, given), from_bigbird(theirs, n), given, 1e-8)
    assert theirs.attention_type == "block_sparse"


def test_outputs_and_gradients_equal_in_single():
    theirs, given = bigbird(torch.float32), batch(100, 9, PAD)
    assert_same(theirs, their_forward(theirs, given), from_bigbird(theirs, 100), given, 1e-4)


def test_the_blocks_of_the_published_size_and_length():
    shape = {"block_size": 64, "num_hidden_layers": 1}
    theirs, given = bigbird(torch.float32, positions=4096, **shape), batch(3072, 70, PAD)
    assert_same(theirs, their_forward(theirs, given), from_bigbird(theirs, 3072), given, 1e-4)


def test_the_other_variants_of_the_architecture():
    theirs = bigbird(torch.float64, use_bias=False, rescale_embeddings=True, hidden_act="gelu")
    given = batch(100, 9, PAD)
    assert_same(theirs, their_forward(theirs, given), from_bigbird(theirs, 100), given, 1e-8)


def test_dropout_falls_where_theirs_does():
    theirs, given = bigbird(torch.float64, hidden_dropout_prob=0.25), batch(100, 0, PAD)
    assert_drop_alike(from_bigbird(theirs, 100), given, their_forward(theirs, given))


def test_full_attention_is_dense():
    for theirs in (bigbird(torch.float64, attention_type="original_full"), bigbird(torch.float64)):
        n = 100 if theirs.attention_type == "original_full" else 44  # too short for blocks
        ours, given = from_bigbird(theirs, n), batch(n, 9, PAD)
        assert set(ours.config.patterns) == {Dense()}
        assert_same(theirs, their_forward(theirs, given), ours, given, 1e-8)


def test_heads_and_layers_have_blocks_of_their_own():
    layers = from_bigbird(bigbird(torch.float32), 100).config.patterns
    assert all(isinstance(layer, HeadGroups) for layer in layers)
    assert len({pattern for layer in layers for pattern, _ in layer.groups}) == 2 * 2


def test_a_single_head_equals_too():
    theirs, given = bigbird(torch.float64, num_attention_heads=1), batch(100, 9, PAD)
    assert_same(theirs, their_forward(theirs, given), from_bigbird(theirs, 100), given, 1e-8)


def test_loading_leaves_the_model_and_the_global_generator_as_they_were():
    theirs = bigbird(torch.float32).eval()
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    ours = from_bigbird(theirs, 100)
    assert np.random.rand() == expected
    assert not any(module.training for module in theirs.modules()) and not ours.training


def test_another_length_than_the_blocks_are_for_is_refused():
    ours = from_bigbird(bigbird(torch.float32), 100)
    with pytest.raises(ConfigError, match="got a length of 96, expected exactly 100"):
        ours(torch.zeros(1, 96, dtype=torch.int64))


def test_a_decoder_is_refused():
    with pytest.raises(ConfigError, match="BigBird decoder"):
        from_bigbird(bigbird(torch.float32, is_decoder=True, attention_type="original_full"), 100)
