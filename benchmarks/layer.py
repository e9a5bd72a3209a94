"""One encoder layer, forward and backward, on a sequence of a million tokens.

    python -m benchmarks.layer [device=cuda] [n=1000000] [dim=512] [patterns=window,strided]
                               [quick=true] [out=DIR]

8 heads, a feed-forward layer of 4 dim, on a GPU in bfloat16 (autocast), on a CPU in float32.
`seconds` is the median of three runs after a first one, whose seconds are `first_seconds`: with it
come the lists of blocks and, on a GPU, the compiling. `peak_mb` on a GPU is what torch allocates
beyond weights and input.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure import cuda_peak_mb, seconds_of
from benchmarks.passes import HEADS
from benchmarks.patterns import patterns
from benchmarks.results import chosen, folder, machine, start, table, usable, write
from core.attention import Pattern
from core.model import EncoderConfig, SparseEncoder

REPEATS = 3
USUAL = "window,longformer,bigbird128,strided"
COLUMNS = (
    "pattern", "n", "dim", "dtype", "seconds", "first_seconds", "tokens_per_second", "peak_mb",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; `patterns` is separated by commas."""

    device: str = "cpu"
    n: int = 1_000_000
    dim: int = 512
    patterns: str = USUAL
    quick: bool = False
    out: str = ""


def step(settings: Settings, n: int, pattern: Pattern) -> Callable[[], None]:
    """Forward and backward of a layer on n random tokens."""
    torch.manual_seed(0)
    config = EncoderConfig(dim=settings.dim, layers=1, heads=HEADS, pattern=pattern)
    model = SparseEncoder(config).to(settings.device).train()
    tokens = torch.randn(1, n, settings.dim, device=settings.device)
    half = torch.autocast(settings.device, torch.bfloat16, enabled=settings.device == "cuda")

    def run() -> None:
        model.zero_grad()
        with half:
            out = model(tokens)
        out.float().square().mean().backward()

    return run


def row_of(settings: Settings, n: int, name: str) -> Row:
    run = step(settings, n, patterns(n)[name])
    first = seconds_of(run)
    seconds = statistics.median([seconds_of(run) for _ in range(REPEATS)])
    cuda = settings.device == "cuda"
    row: Row = {"pattern": name, "n": n, "dim": settings.dim, "seconds": seconds}
    row |= {"dtype": "bfloat16" if cuda else "float32", "first_seconds": first}
    row |= {"tokens_per_second": n / seconds, "peak_mb": cuda_peak_mb(run) if cuda else None}
    return row


def benchmark(settings: Settings) -> None:
    device = usable(settings.device)
    began, rows, n = machine(), list[Row](), 512 if settings.quick else settings.n
    for name in chosen("patterns", settings.patterns, [*patterns(n)]):
        rows.append(row_of(settings, n, name))
        print(table(rows[-1:], COLUMNS), flush=True)
    where = folder(settings.quick, settings.out)
    print("wrote", write("layer", rows, began, device, where))


if __name__ == "__main__":
    start(Settings, benchmark)
