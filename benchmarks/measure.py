"""Timing of several functions side by side, so that a busy machine slows all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    functions: Mapping[str, Callable[[], object]], repeats: int = 5, budget: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of each run of each function: a round of all of them, then the next round.

    A first run of each is not counted, as it also builds plans and fills caches. No further run is
    started that would bring a function's total past `budget` seconds; a function whose first run
    leaves no room for a second has that one as its only figure.
    """
    first = {name: _seconds(function) for name, function in functions.items()}
    spent, counted = dict(first), {name: list[float]() for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            if spent[name] + first[name] <= budget:
                counted[name].append(_seconds(function))
                spent[name] += counted[name][-1]
    return {name: runs or [first[name]] for name, runs in counted.items()}


def _seconds(function: Callable[[], object]) -> float:
    _finish()
    begin = time.perf_counter()
    function()
    _finish()
    return time.perf_counter() - begin


def _finish() -> None:
    """Kernels run on after their call on a GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
