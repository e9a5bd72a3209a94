"""Transactions a second from file to file: our model, and LightGBM with its features.

    python -m benchmarks.throughput [rows=1000000] [repeats=2] [large=20000000] [quick=true]
                                    [out=DIR]

Both read the same simulated Parquet file and write it with scores; every run is a command of its
own, start and imports counted, and the runs of a repeat take turns. Ours has the size of
experiment=handbook, untrained because weights take no time; LightGBM is the larger forest of
`benchmarks.fraud` on 49 features, fitted before. `large` rows are scored once, by ours on two
workers; 0 leaves them out. `peak_mb` is of all processes together. Takes about fifteen minutes on
two quiet cores; needs Linux and the extra `bench`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import run_measured
from benchmarks.results import folder, machine, start, table, write
from benchmarks.scale_jobs import ROOT, Scoring, handbook_sized, write_copies
from core.errors import LongstrandError
from domains.finance.config import FinanceData
from domains.finance.simulate import simulate_transactions

COLUMNS = ("model", "workers", "rows", "seconds", "per_second", "peak_mb")
OURS, TREES = "ours", "lightgbm_49"
DAYS = 60
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    rows: int = 1_000_000
    repeats: int = 2
    large: int = 20_000_000
    quick: bool = False
    out: str = ""

    @property
    def town(self) -> FinanceData:
        """Cards and terminals: as many as the Handbook has."""
        customers, terminals = (40, 60) if self.quick else (5000, 10_000)
        return FinanceData(customers=customers, terminals=terminals, days=DAYS)

    def sizes(self) -> tuple[int, int, int]:
        """`rows`, `repeats` and `large`."""
        return (3000, 1, 5000) if self.quick else (self.rows, self.repeats, self.large)


def ours(job: Scoring, workers: int, output: Path) -> list[str]:
    given = [f"bundle={job.bundle}", f"input={job.input}", f"output={output}"]
    return ["pipelines.score", *given, f"engine.workers={workers}", "threads=1"]


def timed(model: str, workers: int, rows: int, command: list[str]) -> Row:
    """Raises LongstrandError where the command fails or scores other than all rows."""
    ran = run_measured([sys.executable, "-m", *command], ROOT)
    scored = json.loads(ran.last_line)["scored"]
    if scored != rows:
        raise LongstrandError(f"{model}: scored {scored} rows, expected all {rows}")
    who = {"model": model, "workers": workers, "rows": rows}
    return {**who, "seconds": ran.seconds, "per_second": rows / ran.seconds, "peak_mb": ran.peak_mb}


def medians(runs: list[Row]) -> Row:
    """Of the runs of one model; the highest memory."""
    seconds = statistics.median(run["seconds"] for run in runs)
    peak = max(run["peak_mb"] for run in runs)
    first = {**runs[0], "seconds": seconds, "peak_mb": peak, "runs": len(runs)}
    return {**first, "per_second": first["rows"] / seconds}


def measure(settings: Settings, work: Path) -> Iterator[Row]:
    rows, repeats, large = settings.sizes()
    stretch = simulate_transactions(settings.town)
    learned = work / "learned.parquet"
    stretch.write_parquet(learned)
    job = handbook_sized(learned, work / "transactions.parquet")
    write_copies(stretch, DAYS, rows, job.input)
    forest = work / "forest.txt"
    trees = "benchmarks.throughput_trees"
    run_measured([sys.executable, "-m", trees, "fit", str(learned), str(forest)], ROOT)
    contest = {
        (OURS, 1): ours(job, 1, work / "one.parquet"),
        (OURS, 2): ours(job, 2, work / "two.parquet"),
        (TREES, 2): [trees, "score", str(job.input), str(forest), str(work / "trees.parquet")],
    }
    runs: dict[tuple[str, int], list[Row]] = {who: [] for who in contest}
    for _ in range(repeats):
        for (model, workers), command in contest.items():
            runs[model, workers].append(timed(model, workers, rows, command))
    for found in runs.values():
        yield medians(found)
    if large:
        write_copies(stretch, DAYS, large, job.input)
        yield timed(OURS, 2, large, ours(job, 2, work / "large.parquet"))


def benchmark(settings: Settings) -> None:
    began, rows = machine(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        for row in measure(settings, Path(scratch)):
            rows.append(row)
            print(table([row], COLUMNS), flush=True)
    print(table(rows, COLUMNS))
    print("wrote", write("throughput", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
