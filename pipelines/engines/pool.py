"""Partitions to workers: those that carry state one after the other, others as workers are free."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

from core.contract import Partition
from core.errors import LongstrandError


class Worker(Protocol):
    """One process's hands: scores a partition and leaves the result in the job's folder."""

    def score(self, part: Partition, before: Partition | None) -> int:
        """Rows scored. `before` is the partition whose state this one goes on from."""
        ...


class Job(Protocol):
    """What a worker needs to know; it is pickled to where the worker runs."""

    @property
    def threads(self) -> int: ...

    def open(self) -> Worker: ...


class Pool(Protocol):
    """`size` workers, each with at most one partition."""

    size: int

    def submit(self, part: Partition, before: Partition | None) -> Any:
        """A hashable handle of the work, which is under way."""
        ...

    def wait(self, running: Collection[Any]) -> tuple[Any, int]:
        """The first handle that is done, and its rows; raises what its worker raised."""
        ...


def score_parts(
    parts: Sequence[Partition], done: Collection[str], pool: Pool
) -> Iterator[tuple[Partition, int]]:
    """Score what is not done; each partition and its rows as it is finished.

    Args:
        done: keys of partitions whose results are kept.
    """
    left = [part for part in sorted(parts, key=lambda p: p.order) if part.key not in done]
    free = deque(part for part in left if not part.carries_state)
    chain = deque(part for part in left if part.carries_state)
    before = _predecessors(parts)
    running: dict[Any, Partition] = {}
    while free or chain or running:
        while len(running) < pool.size:
            busy = any(part.carries_state for part in running.values())
            waiting = chain if chain and not busy else free
            if not waiting:
                break
            part = waiting.popleft()
            running[pool.submit(part, before.get(part.key))] = part
        handle, rows = pool.wait(running)
        yield running.pop(handle), rows


def _predecessors(parts: Sequence[Partition]) -> dict[str, Partition]:
    chain = sorted((p for p in parts if p.carries_state), key=lambda p: p.order)
    return {after.key: part for part, after in pairwise(chain)}


def worker_died(what: str) -> LongstrandError:
    """Said where a worker ended without an answer."""
    return LongstrandError(
        f"engine: {what} ended before its partition was scored: it was killed, or the machine is "
        "out of memory; finished partitions are kept, the same command goes on; fewer "
        "engine.workers need less memory"
    )
