"""Inputs and comparisons shared by the attention tests."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from torch import Tensor

from core.attention import (
    Causal,
    Dense,
    Dilated,
    Fixed,
    Global,
    LogSparse,
    Pattern,
    Random,
    Strided,
    Window,
    bigbird,
    logsparse,
    longformer,
    sparse_transformer,
)

PATTERNS: dict[str, Pattern] = {
    "window": Window(10),
    "window-causal": Window(10) & Causal(),
    "wide-window": Window(40),
    "lopsided": Window(3) | (Window(20) & Causal()),
    "diagonal": Window(0),
    "global": Global((0, 7, 100)),
    "global-causal": Global((0, 7, 100)) & Causal(),
    "global-window": Global((5, 40)) & Window(20),
    "random": Random(2, seed=3, block=8),
    "random-causal": Random(2, seed=3, block=8) & Causal(),
    "two-randoms": Random(2, seed=3, block=8) | (Random(3, seed=4, block=16) & Window(60)),
    "causal": Causal(),
    "dense": Dense(),
    "longformer": longformer(12, (0, 20, 64)),
    "mixed-globals": Global((3,)) | (Global((3, 50)) & Causal()) | Window(4),
    "many-globals": longformer(3, range(0, 200, 5)),
    "bigbird": Window(8) | Global((0, 33)) | Random(2, seed=1, block=8),
    "bigbird-causal": (Window(8) | Global((0, 33)) | Random(2, seed=1, block=8)) & Causal(),
    "bigbird-64": bigbird(16, 1, (0,), seed=5),
}

REGULAR: dict[str, Pattern] = {
    "dilated": Dilated(5, 3),
    "dilated-far": Dilated(40, 2),
    "dilated-causal": Dilated(5, 4) & Causal(),
    "dilated-window": Dilated(9, 3) | Window(7),
    "strided": Strided(7),
    "strided-causal": Strided(16) & Causal(),
    "two-strides": Strided(3) | (Strided(4) & Window(50)),
    "sparse-transformer": sparse_transformer(11),
    "sparse-transformer-causal": sparse_transformer(11, causal=True),
    "fixed": Fixed(12, 3),
    "fixed-causal": Fixed(16, 2) & Causal(),
    "fixed-cut": (Fixed(9, 2) & Window(40)) | Window(5),
    "log": LogSparse(),
    "log-causal": LogSparse(3) & Causal(),
    "logsparse": logsparse(6, causal=True),
    "log-and-stride": LogSparse(2) | Strided(12) | LogSparse(3),
    "everything": Dilated(6, 5)
    | Window(3)
    | LogSparse()
    | Fixed(20, 1)
    | Global((4, 50))
    | Random(1, seed=2, block=8),
    "everything-causal": (
        Strided(9) | Fixed(10, 2) | LogSparse(3) | Global((4,)) | Random(1, seed=2, block=8)
    )
    & Causal(),
}
PATTERNS.update(REGULAR)


def inputs(
    n: int,
    m: int | None = None,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    size: int = 4,
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves q [batch, 2, n, size], k and v [batch, 2, m, size].

    In float32 the CPU backend has kernels of its own for heads of a multiple of 16 channels.
    """
    generator = torch.Generator().manual_seed(seed)

    def leaf(rows: int) -> Tensor:
        values = torch.randn(batch, 2, rows, size, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    return leaf(n), leaf(n if m is None else m), leaf(n if m is None else m)


def gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The gradients of a fixed random projection of `out`."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return list(torch.autograd.grad((out * weight.to(out)).sum(), leaves))


def assert_same(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


_MEASURE = """
import os, sys, torch
torch.set_num_threads(1)
{run}
for n in map(int, sys.argv[1:]):
    if os.fork() == 0:  # a fork starts with a peak of its own
        torch.manual_seed(0)
        run(n)
        status = open("/proc/self/status").read()
        print(status.split("VmHWM:")[1].split()[0], flush=True)
        os._exit(0)
    os.wait()
"""


def peaks(run: str, lengths: tuple[int, ...]) -> list[int]:
    """Peak memory in KiB of the Python function `run(n)`, given as text, beyond that of n = 64.

    All that is freed goes back at once: by itself malloc starts to keep freed blocks of ever
    larger sizes, when and how many depends on the addresses that it happens to be given.
    """
    command = [sys.executable, "-c", _MEASURE.replace("{run}", run), "64", *map(str, lengths)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    start, *found = (int(line) for line in done.stdout.split())
    return [peak - start for peak in found]
