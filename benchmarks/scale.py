"""Scoring on each engine with one worker and with two: time, memory, and whether files are equal.

    python -m benchmarks.scale [jobs=transactions,variants] [engines=local,ray] [workers=2]
                               [transactions=2000000] [quick=true] [out=DIR]

Every run is a command of its own, start and imports counted. `peak_mb` is of all its processes
together. After a job's runs its files are compared: a byte that differs ends the benchmark. Rows
`cluster` are no measurement but a model of ten such machines (docs/operations.md). Takes about ten
minutes on two cores; needs Linux and, for engine=ray, the extra `ray`.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import run_measured, stage_seconds
from benchmarks.results import chosen, folder, listed, machine, start, table, write
from benchmarks.scale_jobs import JOBS, QUICK, ROOT, Scoring, Sizes
from core.errors import LongstrandError

ENGINES = ("local", "ray")
COLUMNS = ("job", "engine", "workers", "items", "seconds", "per_second", "peak_mb")
STAGES = ("prepare", "score", "write")
CLUSTER, TIMES = 20, (1, 100)  # workers: ten machines of two cores; how often the measured input
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; names are separated by commas. `workers` is the most."""

    jobs: str = ",".join(JOBS)
    engines: str = ",".join(ENGINES)
    workers: int = 2
    transactions: int = Sizes.transactions
    quick: bool = False
    out: str = ""

    def __post_init__(self) -> None:
        for name, known in (("jobs", JOBS), ("engines", ENGINES)):
            chosen(name, getattr(self, name), [*known])

    def sizes(self) -> Sizes:
        return QUICK if self.quick else Sizes(transactions=self.transactions)

    def names(self, what: str) -> list[str]:
        return listed(getattr(self, what))


def measure(name: str, job: Scoring, settings: Settings, work: Path) -> Iterator[Row]:
    """A row for every engine and number of workers.

    Raises:
        LongstrandError: two runs gave different files.
    """
    digests: set[str] = set()
    for engine in settings.names("engines"):
        for workers in range(1, settings.workers + 1):
            output = work / f"{name}-{engine}-{workers}{job.suffix}"
            arguments = [f"bundle={job.bundle}", f"input={job.input}", f"output={output}"]
            arguments += [f"engine={engine}", f"engine.workers={workers}"]
            ran = run_measured([sys.executable, "-m", "pipelines.score", *arguments], ROOT)
            summary, seconds = json.loads(ran.last_line), stage_seconds(ran.said)
            digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
            if len(digests) > 1:
                raise LongstrandError(f"{name}: engine={engine} workers={workers} gave other bytes")
            yield {
                "job": name,
                "engine": engine,
                "workers": workers,
                "items": summary["rows"],
                "seconds": ran.seconds,
                "per_second": summary["rows"] / ran.seconds,
                "peak_mb": ran.peak_mb,
                "partitions": summary["partitions"],
                **{stage: seconds[stage] for stage in STAGES},
                "sha256": digests.copy().pop(),
            }


def cluster(rows: list[Row]) -> Iterator[Row]:
    """What ten such machines would do by `engine=ray`: reading and writing grow with the input,
    partitions are dealt to the workers, starting costs what it costs here.

    Args:
        rows: of one job, one worker of each engine among them.
    """
    one = {row["engine"]: row for row in rows if row["workers"] == 1}
    if set(one) != set(ENGINES):
        return
    local, ray = one["local"], one["ray"]
    part = local["score"] / local["partitions"]
    opening = ray["seconds"] - sum(ray[stage] for stage in STAGES)
    starting = max(0.0, ray["score"] - local["score"])
    for times in TIMES:
        rounds = math.ceil(times * local["partitions"] / CLUSTER)
        alone = times * (local["prepare"] + local["write"])
        seconds = opening + starting + alone + rounds * part
        items = times * local["items"]
        row: Row = {"job": local["job"], "engine": "cluster", "workers": CLUSTER, "items": items}
        yield {**row, "seconds": seconds, "per_second": items / seconds, "peak_mb": None}


def benchmark(settings: Settings) -> None:
    began, rows = machine(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        for name in settings.names("jobs"):
            job = JOBS[name](Path(scratch), settings.sizes())
            if job is None:
                print(f"{name}: no data here; set LONGSTRAND_DATA to the folder that holds it")
                continue
            found = list(measure(name, job, settings, Path(scratch)))
            found += cluster(found)
            print(table(found, [*COLUMNS, *STAGES]), flush=True)
            print(f"{name}: all files are equal", flush=True)
            rows += found
    print("wrote", write("scale", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
