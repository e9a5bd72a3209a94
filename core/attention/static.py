"""What `torch.export` and `torch.compile` may know. Plans are data, not computation: what depends
on lengths alone is made outside of a trace, and what the data decide is no more than shapes
inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # imports the compiler when it is called, not before
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Where `torch.compile` meets it, its graph ends and goes on behind.

    Followed inside, it would build plans anew in each call and stumble over what they hold.
    """
    hidden: Callable[P, R] = _disable_dynamo(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling():
            return hidden(*args, **kwargs)
        return function(*args, **kwargs)  # the other imports the compiler, which takes a second

    return call


@contextmanager
def outside_tracing() -> Iterator[None]:
    """Inside, tensors are real even where `torch.export` is looking: constants of its graph. They
    may be kept, as those made inside `lasting`."""
    with lasting(), _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


@contextmanager
def lasting() -> Iterator[None]:
    """Inside, new tensors are ordinary ones even in `torch.inference_mode`.

    For what is kept between calls: outside of that mode its tensors can't be written to, nor saved
    for a backward pass.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            yield
    else:  # the mode would be part of a program that `torch.export` traces
        yield


def unknown(x: Tensor) -> bool:
    """Whether a tensor is of a trace, and so has no numbers to look at."""
    return is_fake(x)


def known(size: int, otherwise: int) -> int:
    """A size of a tensor, or `otherwise` where a trace leaves it open."""
    return otherwise if isinstance(size, torch.SymInt) else size
