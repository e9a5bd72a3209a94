"""Inputs and comparisons shared by the attention tests."""

from __future__ import annotations

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
    n: int, m: int | None = None, batch: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves q [batch, 2, n, 4], k and v [batch, 2, m, 4]."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(rows: int) -> Tensor:
        values = torch.randn(batch, 2, rows, 4, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    return leaf(n), leaf(n if m is None else m), leaf(n if m is None else m)


def gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The gradients of a fixed random projection of `out`."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return list(torch.autograd.grad((out * weight.to(out)).sum(), leaves))


def assert_same(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
