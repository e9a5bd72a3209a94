"""Functions that become one fused kernel on a GPU and stay as written on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch

_KERNELS = 256  # one a kind of pattern, dtype, number of heads and size of a head

F = TypeVar("F", bound=Callable[..., Any])


@lru_cache
def compiled(function: F, device: str, dynamic: bool | None = True) -> F:
    """Compiled once a process; `dynamic`: for all lengths at once.

    fullgraph: past the limit of kernels torch would else run the plain definition and say nothing.
    """
    if device == "cpu":
        return function
    # Takes a second to import, which only compiling is worth.
    from torch._dynamo import config as dynamo

    dynamo.recompile_limit = max(dynamo.recompile_limit, _KERNELS)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 4 * _KERNELS)
    return cast(F, torch.compile(function, fullgraph=True, dynamic=dynamic))
