"""Timing of several functions side by side, so that a busy machine slows all of them alike."""

from __future__ import annotations

import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from core.memory import keep_freed_memory

_QUICK = 0.005  # seconds


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 5,
    budget: float = math.inf,
    calls: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each run of each function: a round of all of them, then the next round.

    A first run of each is not counted, as it also builds plans and fills caches. No further run is
    started that would bring a function's total past `budget` seconds; a function whose first run
    leaves no room for a second has that one as its only figure.

    With `calls` above 1, a run of a quick function is so many calls in a row, and its seconds are
    those of one: a GPU works on one while Python prepares the next, as it does in training.
    """
    first = {name: seconds_of(function) for name, function in functions.items()}
    spent, counted = dict(first), {name: list[float]() for name in functions}
    row = dict.fromkeys(functions, 1)
    if calls > 1:
        row = {name: calls if seconds_of(f) < _QUICK else 1 for name, f in functions.items()}
    for _ in range(repeats):
        for name, function in functions.items():
            if spent[name] + first[name] <= budget:
                counted[name].append(seconds_of(function, row[name]))
                spent[name] += counted[name][-1] * row[name]
    return {name: runs or [first[name]] for name, runs in counted.items()}


class Peak(NamedTuple):
    """Of one run: memory beyond what was there before, memory in all, and seconds (a first run)."""

    mb: float
    total_mb: float
    seconds: float


class PeakMemory:
    """Peaks of runs on CPU, each in a process of its own, since a process keeps its highest.

    The processes come from a server that has imported `module` and done nothing else.
    """

    def __init__(self, module: str) -> None:
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([module])

    def of(self, prepare: Callable[..., Callable[[], object]], *arguments: object) -> Peak:
        """Of the run that `prepare(*arguments)` returns; what that does is not counted."""
        receiver, sender = self.processes.Pipe(duplex=False)
        process = self.processes.Process(target=_peak, args=(sender, prepare, arguments))
        process.start()
        sender.close()
        found = receiver.recv()
        process.join()
        return found


def _peak(
    sender: Connection, prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]
) -> None:
    keep_freed_memory()
    function = prepare(*arguments)
    before, begin = _highest(), time.perf_counter()
    function()
    seconds, most = time.perf_counter() - begin, _highest()
    sender.send(Peak((most - before) / 1e6, most / 1e6, seconds))


def _highest() -> int:
    """The most bytes of this process that were in memory at a time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cuda_peak_mb(function: Callable[[], object]) -> float:
    """Memory in MB that torch allocates on a GPU in a run, beyond what it had before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    _finish()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def seconds_of(function: Callable[[], object], calls: int = 1) -> float:
    """Of a call, `calls` of them in a row."""
    _finish()
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    _finish()
    return (time.perf_counter() - begin) / calls


def _finish() -> None:
    """Kernels run on after their call on a GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
