"""Batches that can be resumed exactly: batch k is a pure function of (seed, k)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch

from core.errors import ConfigError

Items = TypeVar("Items")


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of `count` processes takes: items rank, rank + count, ..."""

    rank: int = 0
    count: int = 1

    def of(self, items: Items) -> Items:
        """This process's items of a batch, a list or an array.

        Raises:
            ConfigError: fewer items than processes.
        """
        all_items = cast(Any, items)
        if len(all_items) < self.count:
            raise ConfigError(
                f"batch size: found {len(all_items)} for {self.count} processes, expected at least "
                "one item each; raise domain.batch_size or start fewer processes"
            )
        return all_items[self.rank :: self.count]


WHOLE = Share()


class StepLoader:
    """Yields `batch_at(k)` for k = 0 .. steps-1 and remembers k.

    Lightning saves and restores `state_dict` with the checkpoint, so a run that was killed in
    the middle of an epoch sees the batches it had not seen, in the same order. It has a length,
    because Lightning reads one batch ahead of a loader without one, and the saved k would lie.

    Args:
        batch_at: k -> batch k. Where several processes may share the batches it takes a `Share`
            too, and the shares of all processes together are what it gives for `WHOLE`.
    """

    def __init__(self, batch_at: Callable[..., Any], steps: int) -> None:
        self.batch_at = batch_at
        self.steps = steps
        self.next = 0
        self._share = WHOLE

    def take(self, share: Share) -> None:
        """Yield only this part of every batch.

        Raises:
            ConfigError: these batches can't be shared.
        """
        if share.count > 1 and len(inspect.signature(self.batch_at).parameters) < 2:
            raise ConfigError(
                "trainer.strategy: the batches of this task cannot be shared among processes; "
                "train with trainer.strategy=single"
            )
        self._share = share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        while self.next < self.steps:
            k = self.next
            whole = self._share.count == 1
            batch = self.batch_at(k) if whole else self.batch_at(k, self._share)
            self.next = k + 1
            yield batch
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = int(state["next"])


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """One number a (seed, step, process), far apart for neighbours (the odd constants of
    SplitMix64 and of Knuth's MMIX)."""
    mixed = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x5851F42D4C957F2D
    return (mixed + 0x94D049BB133111EB) % 2**63


def generator_at(seed: int, step: int) -> torch.Generator:
    """A generator for one batch; equal (seed, step) give equal draws in any process."""
    return torch.Generator().manual_seed(step_seed(seed, step))
