"""What it takes to build a plan, beside a forward pass of it: plans are built once a length.

    python -m benchmarks.plans [patterns=window] [n=16384] [quick=true] [out=DIR]

Each build is of a length that was not asked for before, so that nothing is read from a cache.
Builds and passes (float32, 8 heads of 64, on a CPU) take turns. Takes a minute on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure import seconds_of
from benchmarks.passes import Inputs, attends
from benchmarks.patterns import patterns
from benchmarks.results import chosen, folder, machine, start, table, write

REPEATS = 9
STEP = 64  # tokens by which the lengths of builds differ
COLUMNS = ("pattern", "n", "build_seconds", "forward_seconds", "share", "repeats")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; `patterns` is separated by commas, "" is all."""

    patterns: str = ""
    n: int = 16384
    quick: bool = False
    out: str = ""


def measure(names: list[str], n: int) -> Iterator[Row]:
    """A row for each pattern; `share` is its building's of its forward pass."""
    inputs = Inputs.of(n, torch.float32, "cpu")
    for name in names:
        pattern = patterns(n)[name]
        call = attends(pattern.plan(range(n), range(n)))
        inputs.runs(call, train=False)
        builds, passes = list[float](), list[float]()
        for at in range(1, REPEATS + 1):
            length = range(n - at * STEP)
            builds.append(seconds_of(lambda some=length, of=pattern: of.plan(some, some).parts))
            passes.append(seconds_of(lambda one=call: inputs.runs(one, train=False)))
        build, forward = statistics.median(builds), statistics.median(passes)
        row: Row = {"pattern": name, "n": n, "build_seconds": build, "forward_seconds": forward}
        yield {**row, "share": build / forward, "repeats": REPEATS}


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    n = 1024 if settings.quick else settings.n
    names = chosen("patterns", settings.patterns, [*patterns(n)])
    began = machine()
    rows = list(measure(names, n))
    print(table(rows, COLUMNS))
    print("wrote", write("plans", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, run)
