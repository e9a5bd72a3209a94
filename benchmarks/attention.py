"""Sparse against dense attention, side by side in one run, for every pattern and length.

    python -m benchmarks.attention [device=cuda] [dtypes=float32] [patterns=window,topk]
                                   [longest=16384] [quick=true] [out=DIR]

`eta` is how well the kernels run: (64-blocks that the plan touches / n^2) x dense / sparse.
`eta_pairs` is what the user gets: (pairs that the pattern names / n^2) x dense / sparse. Dense is
the fastest way of torch for the dtype, found first, and runs in every round up to 16k tokens;
above, its forward runs once and its backward not at all. `predicted` is predicted over measured
seconds. Peak memory is that of float32 up to 16k tokens. Takes about 20 minutes on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import PeakMemory, cuda_peak_mb, interleaved
from benchmarks.passes import HEADS, SIZE, Inputs, attends, run_once
from benchmarks.patterns import patterns
from benchmarks.results import chosen, folder, machine, start, table, write
from core.attention import Plan

LENGTHS = tuple(1024 << power for power in range(7))
DENSE_BACKWARD, REPEATS, BUDGET = 16384, 5, 60.0
PEAKS = 16384  # `benchmarks.memory` goes on from there
PASSES = ("forward", "forward+backward")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = (
    "pattern", "n", "dtype", "pass", "seconds", "dense_seconds", "speedup", "eta", "eta_pairs",
    "predicted", "peak_mb", "repeats",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; lists are separated by commas, "" is all."""

    device: str = "cpu"
    dtypes: str = "float32,bfloat16"
    patterns: str = ""
    longest: int = LENGTHS[-1]
    quick: bool = False
    out: str = ""

    def chosen(self, name: str, known: Sequence[str]) -> list[str]:
        return chosen(name, getattr(self, name), known)


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def dense_converted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return dense(q.float(), k.float(), v.float()).to(q.dtype)


def best_dense(dtype: torch.dtype, device: str) -> tuple[str, Callable[..., Tensor]]:
    """torch's fastest dense attention for the dtype, and how it gets there."""
    ways: dict[str, Callable[..., Tensor]] = {str(dtype).removeprefix("torch."): dense}
    if dtype == torch.bfloat16 and device == "cpu":
        ways["float32 after conversion"] = dense_converted
    given = Inputs.of(2048, dtype, device)
    timed = interleaved({name: lambda way=way: given.runs(way, True) for name, way in ways.items()})
    name = min(ways, key=lambda way: statistics.median(timed[way]))
    return name, ways[name]


def rows_of(settings: Settings, n: int, dtype: str, peaks: PeakMemory) -> Iterator[Row]:
    """All patterns at one length in one dtype."""
    kind, device = DTYPES[dtype], settings.device
    way, call = best_dense(kind, device)
    given = Inputs.of(n, kind, device)
    some = patterns(n)
    plans = {
        name: some[name].plan(range(n), range(n)) for name in settings.chosen("patterns", [*some])
    }
    for run in PASSES:
        train = run == PASSES[1]
        calls = {name: _call(given, attends(plan), train) for name, plan in plans.items()}
        timed = _timed(calls, _call(given, call, train), n, train)
        for name, plan in plans.items():
            row = _row(name, plan, timed[name], timed.get("dense"), train, kind, device)
            row |= {"n": n, "dtype": dtype, "pass": run, "dense_path": way}
            if device == "cuda":
                yield row | {"peak_mb": cuda_peak_mb(calls[name])}
            else:
                told = n <= PEAKS and kind == torch.float32
                mb = peaks.of(run_once, name, n, kind, train).mb if told else None
                yield row | {"peak_mb": mb}


def _timed(
    calls: dict[str, Callable[[], None]], dense: Callable[[], None], n: int, train: bool
) -> dict[str, list[float]]:
    """A round of dense and all patterns at a time; of long sequences dense runs once forward."""
    if n <= DENSE_BACKWARD:
        return interleaved({"dense": dense, **calls}, REPEATS, BUDGET)
    timed = interleaved(calls, REPEATS, BUDGET)
    return timed if train else {**timed, **interleaved({"dense": dense}, repeats=0)}


def _call(given: Inputs, call: Callable[..., Tensor], train: bool) -> Callable[[], None]:
    return lambda: given.runs(call, train)


def _row(
    name: str,
    plan: Plan,
    runs: Sequence[float],
    dense_runs: Sequence[float] | None,
    train: bool,
    dtype: torch.dtype,
    device: str,
) -> Row:
    seconds = statistics.median(runs)
    cost = plan.cost(SIZE, HEADS, dtype=dtype, device=device)
    assert cost.forward_seconds is not None and cost.backward_seconds is not None
    predicted = cost.forward_seconds + (cost.backward_seconds if train else 0.0)
    row: Row = {"pattern": name, "seconds": seconds, "repeats": len(runs)}
    row["predicted_seconds"], row["predicted"] = predicted, predicted / seconds
    if dense_runs is None:
        return row | dict.fromkeys(("dense_seconds", "speedup", "eta", "eta_pairs"))
    dense_seconds = statistics.median(dense_runs)
    speedup, square = dense_seconds / seconds, len(plan.q) * len(plan.kv)
    row |= {"dense_seconds": dense_seconds, "speedup": speedup}
    row["eta"] = plan.grid_area() / square * speedup
    row["eta_pairs"] = plan.pairs() / square * speedup
    return row


def overtakes(rows: Sequence[Row]) -> list[Row]:
    """The shortest length from which each pattern is faster than dense at all that were timed."""
    found: list[Row] = []
    for name, dtype, run in dict.fromkeys((r["pattern"], r["dtype"], r["pass"]) for r in rows):
        mine = [r for r in rows if (r["pattern"], r["dtype"], r["pass"]) == (name, dtype, run)]
        timed = sorted((r["n"], r["speedup"]) for r in mine if r["speedup"] is not None)
        slower = [n for n, speedup in timed if speedup <= 1]
        faster = [n for n, _ in timed if not slower or n > max(slower)]
        row = {"pattern": name, "dtype": dtype, "pass": run}
        found.append({**row, "overtakes_dense_at": min(faster, default=None)})
    return found


def benchmark(settings: Settings) -> None:
    began = machine()
    lengths = (256,) if settings.quick else [n for n in LENGTHS if n <= settings.longest]
    rows: list[Row] = []
    peaks = PeakMemory("benchmarks.passes")
    for n in lengths:
        for dtype in settings.chosen("dtypes", [*DTYPES]):
            found = list(rows_of(settings, n, dtype, peaks))
            print(table(found, COLUMNS), f"dense: {found[0]['dense_path']}\n", sep="\n", flush=True)
            rows += found
    crossings = overtakes(rows)
    print(table(crossings, ("pattern", "dtype", "pass", "overtakes_dense_at")))
    print(
        "wrote",
        write(
            "attention",
            rows + crossings,
            began,
            settings.device,
            folder(settings.quick, settings.out),
        ),
    )


if __name__ == "__main__":
    start(Settings, benchmark)
