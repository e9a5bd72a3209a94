"""The blocks that transformers' BigBird attends by, as patterns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from core.attention import Blocks, Dense, Global, HeadGroups, Pattern

_PAPER_LENGTHS = (1024, 3072, 4096)  # for these it draws from the first 1024 tokens' blocks


def bigbird_patterns(model: nn.Module, length: int) -> tuple[Pattern, ...]:
    """One for each layer of a `BigBirdModel`, for sequences of `length` tokens."""
    config: Any = model.config
    block, slots = config.block_size, config.num_random_blocks
    layers: Any = model.encoder
    rows = -(-length // block)  # it pads to whole blocks
    if model.attention_type == "original_full" or length <= (5 + 2 * slots) * block:
        return (Dense(),) * len(layers.layer)
    return tuple(
        _pattern(_drawn(layer.attention.self, rows), rows, block) for layer in layers.layer
    )


def _pattern(tables: list[Any], rows: int, block: int) -> Pattern:
    """First and last block global, the window of three blocks, each head's random blocks."""
    edges = Global((*range(block), *range((rows - 1) * block, rows * block)))
    heads: list[Pattern] = []
    for table in tables:
        middle = [
            (row - 1, row, row + 1, *(int(drawn) for drawn in table[row - 1]))
            for row in range(1, rows - 1)
        ]
        heads.append(edges | Blocks(block, ((), *middle)))
    same = len(set(heads)) == 1
    return heads[0] if same else HeadGroups(tuple((head, 1) for head in heads))


def _drawn(attention: Any, rows: int) -> list[Any]:
    """The random blocks of each head, [rows - 2, slots], from the model's own drawing."""
    block, slots, heads = (
        attention.block_size,
        attention.num_random_blocks,
        attention.num_attention_heads,
    )
    length = rows * block
    with _seeded(attention):
        if length in _PAPER_LENGTHS:
            longest = attention.max_seqlen
            draw = attention._bigbird_block_rand_mask
            tables = [
                draw(longest, longest, block, block, slots, last_idx=1024) for _ in range(heads)
            ]
            return [table[: rows - 2] for table in tables]
        lengths, counts = attention._get_rand_attn_plan(length, block, slots)
        return attention._bigbird_block_rand_mask_with_head(
            length, length, block, block, heads, lengths, counts
        )


@contextmanager
def _seeded(attention: Any) -> Iterator[None]:
    """In training mode with the layer's seed in numpy's global generator; both are put back."""
    state, training = np.random.get_state(), attention.training
    try:
        attention.train()
        np.random.seed(attention.seed)
        yield
    finally:
        np.random.set_state(state)
        attention.train(training)
