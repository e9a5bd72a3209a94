"""Models of Hugging Face transformers as ours: the same weights, this library's attention.

The functions take the loaded model and read its config and weights; transformers itself is not
needed here. Dropout of attention weights, which those models have in training, is not carried
over: `attend` has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.attention import longformer
from core.errors import ConfigError
from core.model.bigbird_blocks import bigbird_patterns
from core.model.post_norm import PostNormConfig, PostNormEncoder

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# ours: theirs, several where one projection of ours holds several of theirs
_OUTSIDE = {
    "tokens": ["embeddings.word_embeddings"],
    "positions": ["embeddings.position_embeddings"],
    "types": ["embeddings.token_type_embeddings"],
    "norm": ["embeddings.LayerNorm"],
}
_LAYER = {
    "attention.project_in": [f"attention.self.{name}" for name in ("query", "key", "value")],
    "attention.project_out": ["attention.output.dense"],
    "attention_norm": ["attention.output.LayerNorm"],
    "ffn.0": ["intermediate.dense"],
    "ffn.2": ["output.dense"],
    "ffn_norm": ["output.LayerNorm"],
}
_GLOBAL = {
    "attention.global_query": ["attention.self.query_global"],
    "attention.global_key_value": [f"attention.self.{name}_global" for name in ("key", "value")],
}


def from_longformer(model: nn.Module, global_tokens: Iterable[int] = ()) -> PostNormEncoder:
    """transformers' `LongformerModel` (Beltagy et al. 2020, arXiv:2004.05150) as ours.

    Args:
        model: the encoder without its head, such as `LongformerForMaskedLM(...).longformer`.
        global_tokens: positions with global attention, the same in every sequence.

    Positions count from the first token, so padding belongs after the tokens; with padding before
    them pass `positions`.
    """
    config = _config(model, "longformer")
    tokens = tuple(sorted(set(global_tokens)))
    windows = config.attention_window
    if isinstance(windows, int):
        windows = [windows] * config.num_hidden_layers
    return _encoder(
        model,
        PostNormConfig(
            **_shape(config),
            patterns=tuple(longformer(window // 2, tokens) for window in windows),
            first_position=config.pad_token_id + 1,
            global_tokens=tokens,
        ),
    )


def from_bigbird(model: nn.Module, length: int) -> PostNormEncoder:
    """transformers' `BigBirdModel` (Zaheer et al. 2020, arXiv:2007.14062) as ours.

    Args:
        model: the encoder without its head, such as `BigBirdForMaskedLM(...).bert`.
        length: of the sequences, padding included. BigBird's blocks depend on it: the last block
            is global, and random blocks are drawn anew for each length.

    The blocks are those that transformers attends to in training, a table of random ones for each
    head and layer. In evaluation it takes block 0 for every random one, and counts it once more
    for each; ours keeps those of training. A random block that is a global one too (possible at
    length 1024) counts once here and twice there. Sequences too short for blocks, or a model set
    to "original_full", attend to everything.
    """
    config = _config(model, "big_bird")
    if config.is_decoder:
        raise ConfigError("model: got a BigBird decoder, expected an encoder (is_decoder=False)")
    return _encoder(
        model,
        PostNormConfig(
            **_shape(config),
            patterns=bigbird_patterns(model, length),
            bias=config.use_bias,
            embedding_scale=config.hidden_size**0.5 if config.rescale_embeddings else 1.0,
            length=length,
            dropped_first=True,
        ),
    )


def renamed(theirs: Mapping[str, Tensor], config: PostNormConfig) -> dict[str, Tensor]:
    """Their weights, or gradients, under our names. Raises ConfigError where one is missing."""
    of_layer = _LAYER | (_GLOBAL if config.global_tokens else {})
    names = dict(_OUTSIDE)
    for at in range(len(config.patterns)):
        for our, their in of_layer.items():
            names[f"layers.{at}.{our}"] = [f"encoder.layer.{at}.{name}" for name in their]
    ours: dict[str, Tensor] = {}
    for our, their in names.items():
        for kind in ("weight", "bias"):
            found = [theirs[f"{name}.{kind}"] for name in their if f"{name}.{kind}" in theirs]
            if len(found) == len(their):
                ours[f"{our}.{kind}"] = torch.cat(found) if len(found) > 1 else found[0]
            elif kind == "weight":
                raise ConfigError(f"weights: got no {their[0]}.weight, expected an encoder's")
    return ours


def _encoder(model: nn.Module, config: PostNormConfig) -> PostNormEncoder:
    """In the dtype, on the device and in the mode of `model`."""
    weights = model.state_dict()
    some = weights["embeddings.LayerNorm.weight"]
    encoder = PostNormEncoder(config).to(some.device, some.dtype)
    encoder.load_state_dict(renamed(weights, config))
    return encoder.train(model.training)


def _config(model: nn.Module, kind: str) -> Any:
    config: Any = getattr(model, "config", None)
    found = getattr(config, "model_type", None)
    if found != kind or not hasattr(model, "encoder"):
        raise ConfigError(
            f"model: got {type(model).__name__} of type {found!r}, expected transformers' "
            f"encoder of type {kind!r} without a head"
        )
    return config


def _shape(config: Any) -> dict[str, Any]:
    """What is called alike in the configs of all models of BERT's family."""
    if config.hidden_act not in _ACTIVATIONS:
        known = sorted(_ACTIVATIONS)
        raise ConfigError(f"hidden_act: got {config.hidden_act!r}, expected one of {known}")
    return {
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "types": config.type_vocab_size,
        "dim": config.hidden_size,
        "heads": config.num_attention_heads,
        "hidden": config.intermediate_size,
        "activation": _ACTIVATIONS[config.hidden_act],
        "eps": config.layer_norm_eps,
        "dropout": config.hidden_dropout_prob,
    }
