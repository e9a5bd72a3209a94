"""A causal encoder over a stream: a state a block, chunks give what one pass gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from core.attention import StreamState
from core.attention.saved import below, facts_of, from_bytes, nested, to_bytes, with_facts
from core.errors import ConfigError
from core.model.block import Block
from core.model.encoder import SparseEncoder

_KIND = "encoder stream"


class EncoderStream:
    """What `encoder` needs of the past to encode the tokens that come next.

    Every block keeps the keys and values that later tokens may see (see `StreamState`), so the
    memory is layers x O(reach + chunk) for a pattern of bounded reach.

    Args:
        encoder: with a causal pattern, in evaluation mode. It is not part of the saved state.

    Raises:
        ConfigError: a pattern in which a token sees later ones.
    """

    def __init__(self, encoder: SparseEncoder) -> None:
        config = encoder.config
        self.encoder = encoder
        self._states = [StreamState(config.pattern, config.block) for _ in range(config.layers)]

    @property
    def seen(self) -> int:
        """Tokens so far, and the position of the next."""
        return self._states[0].seen

    @torch.no_grad()
    def encode(
        self, x_BND: Tensor, positions: Tensor | None = None, start: Tensor | None = None
    ) -> Tensor:
        """Encodes the next N tokens of B sequences, which then belong to the past.

        Args:
            x_BND: embedded tokens [batch, tokens, dim].
            positions: [N] or [B, N] for rotary, as in `SparseEncoder`; seen, seen + 1, ... where
                None.
            start: as in `StreamState.attend`: where a sequence begins that has padding before.

        Returns:
            [B, N, dim], as `encoder` gives for all tokens at once.

        Raises:
            ConfigError: an encoder in training mode, or what `StreamState.attend` refuses.
        """
        if self.encoder.training:
            raise ConfigError(
                "encoder stream: got an encoder in training mode, whose dropout would get into the "
                "state; call encoder.eval() first"
            )
        if positions is None:
            positions = torch.arange(self.seen, self.seen + x_BND.shape[1], device=x_BND.device)
        for block, state in zip(self.encoder.blocks, self._states, strict=True):
            x_BND = cast(Block, block).stream(x_BND, state, positions, start)
        return self.encoder.norm(x_BND)

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors, without the encoder's weights."""
        tensors = {}
        for at, state in enumerate(self._states):
            tensors |= nested(str(at), state.state_dict())
        return with_facts(tensors, kind=_KIND, layers=len(self._states))

    @staticmethod
    def from_state_dict(encoder: SparseEncoder, saved: Mapping[str, Tensor]) -> EncoderStream:
        """Goes on where `state_dict` was taken, with the encoder of that stream: same bits.

        Raises:
            ConfigError: a state of another kind, or of an encoder with other layers or pattern.
        """
        layers = facts_of(saved, _KIND)["layers"]
        stream = EncoderStream(encoder)
        states = [StreamState.from_state_dict(below(str(at), saved)) for at in range(layers)]
        expected = [(state.pattern, state.block) for state in stream._states]
        got = [(state.pattern, state.block) for state in states]
        if got != expected:
            raise ConfigError(
                f"encoder stream: got a state of {len(got)} layers with {got[0]}, expected "
                f"{len(expected)} layers with {expected[0]}: load it with the encoder it came from"
            )
        stream._states = states
        return stream

    def to_bytes(self) -> bytes:
        return to_bytes(self.state_dict())

    @staticmethod
    def from_bytes(
        encoder: SparseEncoder, data: bytes, device: torch.device | str = "cpu"
    ) -> EncoderStream:
        """Raises ConfigError for bytes that are no saved `EncoderStream` of such an encoder."""
        return EncoderStream.from_state_dict(encoder, from_bytes(data, device))
