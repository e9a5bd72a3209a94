"""Whole encoders side by side: ours, transformers' Longformer and BigBird, PyTorch's dense one.

    python -m benchmarks.encoders [device=cuda] [dtype=bfloat16] [quick=true] [out=DIR]

Longformer and BigBird run on the same weights as ours, loaded by `core.model.from_transformers`;
before the clock starts their outputs are compared with ours. `SparseEncoder` with a window is
timed against `nn.TransformerEncoder` of the same size, and beside each run the linear layers of
ours alone. On a CPU all is timed twice, each time in a process of its own: in a plain one, and
where freed memory stays with the process, as in our pipelines (`core.memory`), for both sides.
Takes about twenty minutes on two cores.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks import encoder_contests
from benchmarks.encoder_contests import CONTESTS, LINEAR, QUICK, Contest, Size
from benchmarks.measure import interleaved
from benchmarks.results import folder, machine, start, table, usable, write
from core.errors import ConfigError
from core.memory import keep_freed_memory

PASSES = ("forward", "forward+backward")
REPEATS, BUDGET = 5, 45.0  # timed runs of a pass, and the seconds after which no more are begun
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLOSE = 1e-3  # of outputs in float32, which are normed, so near 1 in size
PLAIN, KEPT = "plain", "kept"
"""What becomes of memory that is freed: the C library's own way, or it stays with the process."""


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    device: str = "cpu"
    dtype: str = "float32"
    quick: bool = False
    out: str = ""


def measured(settings: Settings, size: Size) -> list[dict[str, Any]]:
    """The rows of all contests, each in processes of its own, as the large ones take gigabytes."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([encoder_contests.__name__])
    rows: list[dict[str, Any]] = []
    for kind, n in size.contests():
        for memory in (PLAIN, KEPT) if settings.device == "cpu" else (PLAIN,):
            with ProcessPoolExecutor(1, server) as process:
                rows += process.submit(contested, kind, n, memory, settings, size).result()
    return rows


def contested(
    kind: str, n: int, memory: str, settings: Settings, size: Size
) -> list[dict[str, Any]]:
    """The rows of one contest, in this process."""
    # PyTorch's fast path for inference on CPU writes out all n x n weights and is slower
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    if memory == KEPT and not keep_freed_memory():
        return []
    return [{**row, "memory": memory} for row in measure(CONTESTS[kind](size, n), settings)]


def measure(contest: Contest, settings: Settings) -> Iterator[dict[str, Any]]:
    """A row for each model and pass. Raises ConfigError where outputs that must agree don't."""
    dtype = DTYPES[settings.dtype]
    if contest.same:
        _compare(contest, *_moved(contest, settings.device, torch.float32))
    models, inputs = _moved(contest, settings.device, dtype)
    makers = {"forward": _forward, "forward+backward": _forward_backward}
    for kind in PASSES:
        runs = {name: makers[kind](model, inputs) for name, model in models.items()}
        seconds = interleaved(runs, REPEATS, BUDGET)
        for name, found in seconds.items():
            yield {
                "model": name,
                "pattern": contest.pattern,
                "n": contest.n,
                "dtype": settings.dtype,
                "pass": kind,
                "seconds": statistics.median(found),
                "repeats": len(found),
            }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each rival, length and pass: its seconds, ours, and how much faster ours is."""
    found = {(r["model"], *_contest(r)): r for r in rows}
    lines: list[dict[str, Any]] = []
    for theirs in rows:
        if theirs["model"] in ("ours", LINEAR):
            continue
        our, linear = (found[name, *_contest(theirs)] for name in ("ours", LINEAR))
        lines.append(
            {
                "against": theirs["model"],
                "n": theirs["n"],
                "memory": theirs["memory"],
                "pass": theirs["pass"],
                "seconds": theirs["seconds"],
                "ours": our["seconds"],
                "ratio": theirs["seconds"] / our["seconds"],
                "linear": linear["seconds"],
                "repeats": f"{theirs['repeats']}/{our['repeats']}",
                "our pattern": our["pattern"],
            }
        )
    return lines


def overtaking(lines: list[dict[str, Any]], kind: str) -> str:
    """From which length on ours beat the dense encoder at all lengths measured, in every memory."""
    first: int | None = None
    for line in sorted(lines, key=lambda line: (line["n"], -line["ratio"])):
        if line["against"] == "torch_dense" and line["pass"] == kind:
            first = (first or line["n"]) if line["ratio"] > 1 else None
    found = "at no length measured" if first is None else f"from n = {first} on"
    return f"{kind}: faster than torch_dense {found}"


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    if settings.dtype not in DTYPES:
        raise ConfigError(f"dtype: got {settings.dtype!r}, expected one of {[*DTYPES]}")
    device = usable(settings.device)
    began, size = machine(), QUICK if settings.quick else Size()
    print(
        f"{size.layers} layers, {size.dim} channels, {size.heads} heads, feed-forward "
        f"{size.hidden}, batch 1, {settings.dtype} on {settings.device}; radius {size.radius} is "
        f"Longformer's attention_window {2 * size.radius}; load before: {began['load']}\n"
        "memory: plain is a Python process as it is, kept one whose freed memory stays with it; "
        "linear: the linear layers of ours alone"
    )
    rows = measured(settings, size)
    lines = compared(rows)
    print(table(lines, [*lines[0]]))
    print("\n".join(overtaking(lines, kind) for kind in PASSES))
    name = "encoders" if settings.dtype == "float32" else f"encoders.{settings.dtype}"
    print("wrote", write(name, rows, began, device, folder(settings.quick, settings.out)))


def _contest(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("pattern", "n", "pass", "memory"))


def _moved(
    contest: Contest, device: str, dtype: torch.dtype
) -> tuple[dict[str, nn.Module], tuple[Any, ...]]:
    models = {name: model.to(device, dtype) for name, model in contest.models.items()}
    to = {True: dtype, False: None}
    return models, tuple(x.to(device, to[x.is_floating_point()]) for x in contest.inputs)


def _compare(contest: Contest, models: dict[str, nn.Module], inputs: tuple[Any, ...]) -> None:
    """In float32: in bfloat16 either of them is further from the exact output than they are here
    from each other."""
    with torch.no_grad():
        theirs, ours = models[contest.rival](*inputs), models["ours"](*inputs)
    apart = (theirs - ours).abs().max().item()
    if not apart <= CLOSE:
        raise ConfigError(
            f"{contest.rival} at n={contest.n}: outputs differ from ours by {apart:.3g}, expected "
            f"at most {CLOSE}: these are not the same function, and times would mean nothing"
        )


def _forward(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            model(*inputs)

    return forward


def _forward_backward(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], None]:
    def forward_backward() -> None:
        model.zero_grad(set_to_none=True)
        out = model(*inputs)
        out.backward(torch.ones_like(out).cumsum(1).cos())

    return forward_backward


if __name__ == "__main__":
    start(Settings, run)
