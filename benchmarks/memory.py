"""Peak memory against length, and a million tokens in one pass: O(n), shown by running it.

    python -m benchmarks.memory [patterns=window] [longest=131072] [million=false]
                                [quick=true] [out=DIR]

Every run is a process of its own. `ratio` is the memory of a length over that of its half: about
2 where memory is linear. `peak_mb` counts what a run needs beyond its inputs, `total_mb` all that
its process has. Takes about ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure import PeakMemory
from benchmarks.passes import run_once
from benchmarks.patterns import patterns
from benchmarks.results import chosen, folder, machine, start, table, write

MILLION = 1 << 20
SHORTEST = 16384
COLUMNS = ("pattern", "n", "dtype", "pass", "peak_mb", "ratio", "total_mb", "seconds")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; `patterns` is separated by commas, "" is all."""

    patterns: str = ""
    longest: int = 131072
    million: bool = True
    quick: bool = False
    out: str = ""

    def names(self) -> list[str]:
        return chosen("patterns", self.patterns, [*patterns(SHORTEST)])

    def lengths(self) -> list[int]:
        shortest, longest = (256, 512) if self.quick else (SHORTEST, self.longest)
        return [shortest << power for power in range((longest // shortest).bit_length())]


def rows_of(name: str, lengths: list[int], train: bool, peaks: PeakMemory) -> Iterator[Row]:
    half: float | None = None
    kind = "forward+backward" if train else "forward"
    for n in lengths:
        peak = peaks.of(run_once, name, n, torch.float32, train)
        row: Row = {"pattern": name, "n": n, "dtype": "float32", "pass": kind, "peak_mb": peak.mb}
        row |= {"total_mb": peak.total_mb, "seconds": peak.seconds}
        yield {**row, "ratio": None if half is None else peak.mb / half}
        half = peak.mb


def benchmark(settings: Settings) -> None:
    began, rows, peaks = machine(), list[Row](), PeakMemory("benchmarks.passes")
    for name in settings.names():
        found = list(rows_of(name, settings.lengths(), True, peaks))
        if settings.million and not settings.quick:
            found += rows_of(name, [MILLION], False, peaks)
        print(table(found, COLUMNS), flush=True)
        rows += found
    print("wrote", write("memory", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
