"""Plans are data, not computation: what depends on lengths alone is made outside of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def outside_tracing() -> Iterator[None]:
    """Inside, tensors are real even where `torch.export` is looking: constants of its graph."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield
