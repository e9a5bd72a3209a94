"""Memory that pieces use in turn: fresh pages for each would cost as much as the arithmetic."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

_KEPT = 1 << 21  # numbers; more is rare, and given back


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}


_scratch = _Scratch()


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, valid until this thread asks for `name` again."""
    size = math.prod(shape)
    if size > _KEPT:
        return torch.empty(shape, dtype=dtype)
    if (name, dtype) not in _scratch.buffers:
        _scratch.buffers[name, dtype] = torch.empty(_KEPT, dtype=dtype)
    return _scratch.buffers[name, dtype][:size].view(shape)
