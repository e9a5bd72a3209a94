"""States of streams as bytes: plain tensors in the safetensors format, facts as JSON among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from core.errors import ConfigError

_FACTS = "facts"


def with_facts(tensors: Mapping[str, Tensor], **facts: Any) -> dict[str, Tensor]:
    """The tensors and one more that holds JSON."""
    text = json.dumps(facts, sort_keys=True).encode()
    return {_FACTS: torch.frombuffer(bytearray(text), dtype=torch.uint8), **tensors}


def facts_of(saved: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    """What `with_facts` was given. Raises ConfigError where it was another kind of state."""
    held = saved.get(_FACTS)
    facts = {} if held is None else json.loads(bytes(held.cpu().tolist()))
    if facts.get("kind") != kind:
        raise ConfigError(
            f"saved state: got kind {facts.get('kind')!r} with tensors {sorted(saved)}, "
            f"expected {kind!r}: load it with the class that saved it"
        )
    return facts


def nested(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `nested`; empty where nothing has the prefix."""
    start = f"{prefix}."
    return {name[len(start) :]: x for name, x in tensors.items() if name.startswith(start)}


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: x.contiguous() for name, x in tensors.items()})


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Raises ConfigError for bytes that `to_bytes` didn't make."""
    try:
        loaded = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ConfigError(
            f"saved state: got {len(data)} bytes that are no safetensors file ({error}): "
            "the file is damaged or something else; start a new state"
        ) from error
    return {name: tensor.to(device) for name, tensor in loaded.items()}
