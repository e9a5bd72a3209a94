"""What the processes of one training tell each other. In a single process nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import ConfigError, LongstrandError
from core.training import launch

T = TypeVar("T")

# The others wait while the first reads, predicts and writes; the death of one ends the wait.
PATIENCE = timedelta(days=7)


def join(strategy: str) -> None:
    """Connect the processes that torchrun started.

    Raises:
        ConfigError: the strategy and the way of starting do not fit.
    """
    if strategy == "single" and launch.count() > 1:
        raise ConfigError(
            f"trainer.strategy: found single in {launch.count()} processes of torchrun, each of "
            "which would train a model of its own; say trainer.strategy=ddp or fsdp"
        )
    if strategy != "single" and not launch.launched():
        raise ConfigError(
            f"trainer.strategy: found {strategy} in a process that torchrun did not start; "
            "torchrun --standalone --nproc_per_node=2 -m pipelines.train ... starts two"
        )
    if launch.launched() and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)


def joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(value: Tensor) -> Tensor:
    """Sum over the processes, in each of them; without gradient."""
    value = value.detach().clone()
    if joined():
        dist.all_reduce(value)
    return value


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether it is set in any process."""
    return flag if not joined() else bool(total(torch.tensor(float(flag), device=device)))


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; an error of its too."""
    if not joined():
        return make()
    said: list[Any] = [None]
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            said = [(make(), None)]
        except Exception as error:
            failure = error
            said = [(None, _sendable(error))]
    dist.broadcast_object_list(said, src=0)
    value, error = said[0]
    if failure is not None:
        raise failure
    if error is not None:
        raise error
    return cast(T, value)


def gathered(value: T) -> list[T]:
    """The value of every process, by rank, in each of them."""
    if not joined():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _sendable(error: Exception) -> LongstrandError:
    if isinstance(error, LongstrandError):
        return error
    return LongstrandError(f"the first process failed: {type(error).__name__}: {error}")
