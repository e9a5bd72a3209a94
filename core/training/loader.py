"""Batches that can be resumed exactly: batch k is a pure function of (seed, k)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


class StepLoader:
    """Yields `batch_at(k)` for k = 0 .. steps-1 and remembers k.

    Lightning saves and restores `state_dict` with the checkpoint, so a run that was killed in
    the middle of an epoch sees the batches it had not seen, in the same order. It has a length,
    because Lightning reads one batch ahead of a loader without one, and the saved k would lie.
    """

    def __init__(self, batch_at: Callable[[int], Any], steps: int) -> None:
        self.batch_at = batch_at
        self.steps = steps
        self.next = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        while self.next < self.steps:
            k = self.next
            batch = self.batch_at(k)
            self.next = k + 1
            yield batch
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = int(state["next"])


def step_seed(seed: int, step: int) -> int:
    """One number a (seed, step), far apart for neighbours (the odd constants of SplitMix64)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63


def generator_at(seed: int, step: int) -> torch.Generator:
    """A generator for one batch; equal (seed, step) give equal draws in any process."""
    return torch.Generator().manual_seed(step_seed(seed, step))
