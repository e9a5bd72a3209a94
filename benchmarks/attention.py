"""Sparse against dense attention, side by side in one run, for every pattern and length.

    python -m benchmarks.attention [device=cuda] [dtypes=float32] [patterns=window,topk]
                                   [shortest=4096] [longest=16384] [batch=1]
                                   [quick=true] [out=DIR]

`eta` is how well the kernels run: (64-blocks that the plan touches / n^2) x dense / sparse.
`eta_pairs` is what the user gets: (pairs that the pattern names / n^2) x dense / sparse. Dense is
the fastest way of torch for the dtype, found first, and runs in every round up to 16k tokens;
above, on a CPU its forward runs once and its backward not at all. `predicted` is predicted over
measured seconds. Peak memory on a CPU is that of float32 up to 16k tokens. Takes about 20 minutes
on two cores. On a GPU a pass is of as many sequences as make 131,072 tokens, so that the longest
and the shortest keep it as busy, dense is the fastest of torch's kernels at each length, and
patterns have their turn one by one: the more kernels a process has, the longer a call looks for
its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import PeakMemory, cuda_peak_mb, interleaved
from benchmarks.passes import HEADS, SIZE, Inputs, attends, run_once
from benchmarks.patterns import patterns
from benchmarks.results import chosen, folder, machine, start, table, usable, write
from core.attention import Plan
from core.errors import ConfigError

LENGTHS = tuple(1024 << power for power in range(7))
DENSE_BACKWARD, REPEATS, BUDGET = 16384, 5, 60.0
TOKENS, CALLS = 131072, 5  # of a pass on a GPU, and passes in a row there
PEAKS = 16384  # `benchmarks.memory` goes on from there
PASSES = ("forward", "forward+backward")
NO_KERNEL = ("No available kernel", "No viable backend")  # how torch's errors begin there
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = (
    "pattern", "n", "batch", "dtype", "pass", "seconds", "dense_seconds", "speedup", "eta",
    "eta_pairs", "predicted", "peak_mb", "repeats",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; lists are separated by commas, "" is all."""

    device: str = "cpu"
    dtypes: str = "float32,bfloat16"
    patterns: str = ""
    shortest: int = LENGTHS[0]
    longest: int = LENGTHS[-1]
    batch: int = 0
    quick: bool = False
    out: str = ""

    def sequences(self, n: int) -> int:
        """In a pass; `batch` where it is named."""
        return self.batch or (1 if self.device == "cpu" else max(1, TOKENS // n))

    def turns(self) -> Iterator[Settings]:
        """All patterns side by side, or on a GPU one after another."""
        if self.device == "cpu":
            yield self
            return
        for name in self.chosen("patterns", [*patterns(LENGTHS[0])]):
            torch.compiler.reset()
            yield replace(self, patterns=name)

    def chosen(self, name: str, known: Sequence[str]) -> list[str]:
        return chosen(name, getattr(self, name), known)


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def dense_converted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return dense(q.float(), k.float(), v.float()).to(q.dtype)


def dense_by(kernel: SDPBackend) -> Callable[..., Tensor]:
    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(kernel):
            return dense(q, k, v)

    return call


@cache
def best_dense(
    n: int, batch: int, dtype: torch.dtype, device: str, train: bool
) -> tuple[str, Callable[..., Tensor]]:
    """torch's fastest dense attention for such inputs, and how it gets there."""
    ways: dict[str, Callable[..., Tensor]] = {str(dtype).removeprefix("torch."): dense}
    if device == "cuda":
        kernels = [SDPBackend.EFFICIENT_ATTENTION]
        if dtype != torch.float32:
            kernels += [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]
        ways = {kernel.name.lower(): dense_by(kernel) for kernel in kernels}
    elif dtype == torch.bfloat16:
        ways["float32 after conversion"] = dense_converted
    given = Inputs.of(n, dtype, device, batch)
    calls = available({name: _call(given, way, train) for name, way in ways.items()})
    if not calls:
        raise ConfigError(f"dtypes: got {dtype}, for which this GPU has none of {[*ways]}")
    timed = interleaved(calls, 3, calls=1 if device == "cpu" else CALLS)
    name = min(calls, key=lambda way: statistics.median(timed[way]))
    return name, ways[name]


def available(calls: Mapping[str, Callable[[], None]]) -> dict[str, Callable[[], None]]:
    """Those whose kernel torch has for this GPU and these inputs."""
    found: dict[str, Callable[[], None]] = {}
    for name, call in calls.items():
        try:
            call()
        except RuntimeError as error:
            if not str(error).startswith(NO_KERNEL):
                raise
            continue
        found[name] = call
    return found


def rows_of(settings: Settings, n: int, dtype: str, peaks: PeakMemory) -> Iterator[Row]:
    """All patterns at one length in one dtype."""
    kind, device, batch = DTYPES[dtype], settings.device, settings.sequences(n)
    given, some = Inputs.of(n, kind, device, batch), patterns(n)
    plans = {
        name: some[name].plan(range(n), range(n)) for name in settings.chosen("patterns", [*some])
    }
    for run in PASSES:
        train = run == PASSES[1]
        cpu = device == "cpu"
        way, call = best_dense(2048 if cpu else n, batch, kind, device, train or cpu)
        calls = {name: _call(given, attends(plan), train) for name, plan in plans.items()}
        timed = _timed(calls, _call(given, call, train), n, train, device)
        for name, plan in plans.items():
            row = _row(name, plan, timed[name], timed.get("dense"), train, given)
            row |= {"n": n, "batch": batch, "dtype": dtype, "pass": run, "dense_path": way}
            if device == "cuda":
                yield row | {"peak_mb": cuda_peak_mb(calls[name])}
            else:
                told = n <= PEAKS and kind == torch.float32
                mb = peaks.of(run_once, name, n, kind, train).mb if told else None
                yield row | {"peak_mb": mb}


def _timed(
    calls: dict[str, Callable[[], None]],
    dense: Callable[[], None],
    n: int,
    train: bool,
    device: str,
) -> dict[str, list[float]]:
    """A round of dense and all patterns at a time; of long sequences dense runs once forward."""
    if device == "cuda":
        return interleaved({"dense": dense, **calls}, REPEATS, BUDGET, CALLS)
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
    given: Inputs,
) -> Row:
    seconds, batch = statistics.median(runs), len(given.q)
    cost = plan.cost(SIZE, HEADS, batch, dtype=given.q.dtype, device=given.q.device.type)
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
    device, began = usable(settings.device), machine()
    within = range(settings.shortest, settings.longest + 1)
    lengths = (256,) if settings.quick else [n for n in LENGTHS if n in within]
    rows: list[Row] = []
    peaks = PeakMemory("benchmarks.passes")
    for some in settings.turns():
        for n, dtype in product(lengths, settings.chosen("dtypes", [*DTYPES])):
            found = list(rows_of(some, n, dtype, peaks))
            ways = " and ".join(dict.fromkeys(row["dense_path"] for row in found))
            print(table(found, COLUMNS), f"dense: {ways}\n", sep="\n", flush=True)
            rows += found
    crossings = overtakes(rows)
    print(table(crossings, ("pattern", "dtype", "pass", "overtakes_dense_at")))
    print(
        "wrote",
        write(
            "attention",
            rows + crossings,
            began,
            device,
            folder(settings.quick, settings.out),
        ),
    )


if __name__ == "__main__":
    start(Settings, benchmark)
