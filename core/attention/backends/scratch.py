"""Memory that pieces use in turn: fresh pages for each would cost as much as the arithmetic."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from core.attention.static import lasting

_KEPT = 1 << 21  # numbers; more is rare, and given back


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}


_scratch = _Scratch()


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, valid until this thread asks for `name` again.

    While `torch.export` or a compiler is looking it is a tensor of the traced program, and none is
    kept: those of a trace hold no numbers, and those of this process don't belong in a program.
    """
    size = math.prod(shape)
    if torch.compiler.is_compiling() or size > _KEPT:
        return torch.empty(shape, dtype=dtype)
    if (name, dtype) not in _scratch.buffers:
        with lasting():
            _scratch.buffers[name, dtype] = torch.empty(_KEPT, dtype=dtype)
    return _scratch.buffers[name, dtype][:size].view(shape)
