"""The kernels that the CPU backend may run a block of rows with, in every block size.

    python -m benchmarks.kernels [quick=true] [out=DIR]

`tiled` is the project's own kernel in float32, from the dtype and back where it is another; `flash`
torch's fused kernel in the dtype itself, `flash in float32` the same after a conversion that is
timed with it, `composed` matrix products and a softmax in float32. Bands are the inside of
a window of radius 256 over views of the keys; slabs are 512 gathered keys. `gflops` counts pairs
computed, `kept` those that the mask lets count, `share` is gflops over those of dense flash,
which runs in the same rounds. The fastest way by `kept` is what `core.attention.backends` should
do. Takes about three minutes on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.composed import composed_backward, composed_forward, flash_backward
from benchmarks.measure import interleaved
from benchmarks.results import folder, machine, start, table, write
from core.attention import Window
from core.attention.axes import KeyBlocks, Run
from core.attention.backends.cpu import BACKWARD, FORWARD, LEVEL
from core.attention.backends.kernels import part_backward, part_forward
from core.attention.backends.pieces import Piece, Size, additive
from core.attention.backends.state import State
from core.attention.backends.tiled import tiled_backward, tiled_forward
from core.attention.parts import Part
from core.errors import LongstrandError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PASSES = ("forward", "backward")
FLOPS = {"forward": 4, "backward": 10}  # a channel of a pair
WHOLE = Size(1 << 20, copied=False, tiled=True)
COMPOSED = Size(1 << 21, copied=True)  # keys of all heads; one head at a time fits in the cache
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # of the largest number
COLUMNS = ("dtype", "pass", "shape", "kernel", "seconds", "gflops", "kept", "share")


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    quick: bool = False
    out: str = ""


@dataclass(frozen=True)
class Extent:
    """Of the inputs; `dense` is the length at which dense flash has its full speed."""

    n: int = 4096
    dense: int = 2048
    heads: int = 8
    channels: int = 64
    radius: int = 256
    rows: tuple[int, ...] = (32, 64, 128, 192, 256)
    slabs: tuple[int, ...] = (64, 128)
    repeats: int = 5


QUICK = Extent(256, 256, 2, 16, 32, (32, 48), (16,), 1)
Pieces = Callable[[Size, torch.dtype], list[Piece]]
Found = tuple[Tensor, ...]


@dataclass(frozen=True)
class Shape:
    name: str
    part: Part
    kept: int

    def pieces(self, size: Size, heads: int, channels: int, dtype: torch.dtype) -> list[Piece]:
        """As the backend cuts them, with masks of the dtype."""
        return [
            Piece(slice(heads), some, *self._mask(some, size, dtype))
            for some in size.split(self.part, heads * channels)
        ]

    @staticmethod
    def _mask(part: Part, size: Size, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        return additive(part.mask(), dtype) if size.masks(part) else (None, None)


def shapes(extent: Extent) -> Iterator[Shape]:
    """The inside of a window in blocks of so many rows; then rows with as many gathered keys."""
    n, generator = extent.n, torch.Generator().manual_seed(0)
    for rows in extent.rows:
        parts = Window(extent.radius).plan(range(n), range(n), rows).parts
        band = max(parts, key=lambda part: part.count)
        kept = band.count * int(band.mask().sum())
        yield Shape(f"band {rows} x {band.cols.width}", band, kept)
    for rows in extent.slabs:
        count, slots = n // rows, 2 * extent.radius // rows
        drawn = torch.rand(count, count, generator=generator).argsort(1)[:, :slots]
        keys = KeyBlocks(drawn * rows, rows, n)
        slab = Part("blocks", (0, 0), Run(0, rows, count, rows), keys, starts=True)
        yield Shape(f"slab {rows} x {slab.cols.width}", slab, slab.area())


class Lab:
    """Inputs of one dtype and the kernels on them."""

    def __init__(self, extent: Extent, dtype: torch.dtype) -> None:
        self.extent, self.dtype = extent, dtype
        generator = torch.Generator().manual_seed(0)
        size = (4, extent.heads, extent.n, extent.channels)
        self.q, self.k, self.v, self.grad = torch.randn(size, generator=generator).to(dtype)
        self.scale = extent.channels**-0.5

    def pieces(self, shape: Shape, size: Size, dtype: torch.dtype) -> list[Piece]:
        return shape.pieces(size, self.extent.heads, self.extent.channels, dtype)

    def forward(self, shape: Shape) -> dict[str, Callable[[], Found]]:
        """out and lse of each kernel."""
        given, pieces = (self.q, self.k, self.v), partial(self.pieces, shape)
        run = partial(_forward, scale=self.scale)
        ways: dict[str, Callable[[], Found]] = {
            "tiled": partial(_tiled_forward, pieces(WHOLE, torch.float32), given, self.scale),
            "flash": partial(run, part_forward, pieces(FORWARD, self.dtype), given),
            "composed": partial(run, composed_forward, pieces(COMPOSED, self.dtype), given),
        }
        if self.dtype != torch.float32:
            wide = pieces(FORWARD, torch.float32)
            ways["flash in float32"] = lambda: _narrowed(
                run(part_forward, wide, tuple(x.float() for x in given)), self.dtype
            )
        return ways

    def backward(self, shape: Shape) -> dict[str, Callable[[], Found]]:
        """dq, dk and dv of each kernel."""
        out, lse = self.forward(shape)["flash"]()
        state = State(self.q, self.k, self.v, out, lse, self.grad)
        run, pieces = partial(_backward, scale=self.scale), partial(self.pieces, shape)
        own = isinstance(shape.part.cols, KeyBlocks) and self.dtype == torch.float32
        composed = part_backward if own else composed_backward  # the backend has this one
        size = BACKWARD if own else COMPOSED
        ways: dict[str, Callable[[], Found]] = {
            "tiled": partial(_tiled_backward, pieces(WHOLE, torch.float32), state, self.scale),
            "flash": partial(run, flash_backward, pieces(BACKWARD, self.dtype), state),
            "composed": partial(run, composed, pieces(size, self.dtype), state),
        }
        if self.dtype != torch.float32:
            wide = pieces(BACKWARD, torch.float32)
            ways["flash in float32"] = lambda: _narrowed(
                run(flash_backward, wide, State(*(x.float() for x in state))), self.dtype
            )
        return ways

    def dense(self, kind: str) -> Callable[[], object]:
        q, k, v, grad = (
            x[None, :, : self.extent.dense] for x in (self.q, self.k, self.v, self.grad)
        )
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        if kind == "forward":
            return lambda: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        return lambda: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, False
        )


def _forward(
    kernel: Callable[..., Found], pieces: list[Piece], given: Found, scale: float
) -> Found:
    out = torch.zeros_like(given[0])
    lse = torch.zeros(out.shape[:2])
    for piece in pieces:
        rows = piece.part.rows
        found, level = kernel(piece.part, piece.mask, *given, scale)
        rows.put(out, found)
        rows.put(lse[..., None], level[..., None])
    return out, lse


def _backward(
    kernel: Callable[..., None], pieces: list[Piece], state: State, scale: float
) -> Found:
    """Sums over pieces are float32 in any dtype."""
    totals = tuple(torch.zeros(x.shape) for x in (state.q, state.k, state.v))
    for piece in pieces:
        kernel(piece.part, piece.mask, state, totals, scale)
    return _narrowed(totals, state.q.dtype)


def _tiled_forward(pieces: list[Piece], given: Found, scale: float) -> Found:
    q, k, v = (x.float() for x in given)
    out, lse = torch.zeros_like(q), torch.zeros(q.shape[:2], dtype=LEVEL)
    tiled_forward(pieces, (q, k, v), out, lse, scale)
    return _narrowed((out, lse.float()), given[0].dtype)


def _tiled_backward(pieces: list[Piece], state: State, scale: float) -> Found:
    wide = State(*(x.float() for x in state))
    totals = (torch.zeros_like(wide.q), torch.zeros_like(wide.k), torch.zeros_like(wide.v))
    tiled_backward(pieces, wide, totals, scale)
    return _narrowed(totals, state.q.dtype)


def _narrowed(found: Found, dtype: torch.dtype) -> Found:
    """In the dtype, but for a log-sum-exp."""
    return tuple(x.to(dtype) if x.ndim == 3 else x for x in found)


def compare(shape: Shape, ways: dict[str, Callable[[], Found]], close: float) -> None:
    """Raises LongstrandError where kernels of one shape are not the same function."""
    results = {name: way() for name, way in ways.items()}
    for name, found in results.items():
        for ours, theirs in zip(found, results["flash"], strict=True):
            apart = float((ours.float() - theirs.float()).abs().max() / theirs.abs().max())
            if not apart <= close:
                raise LongstrandError(
                    f"{name} on {shape.name}: got {apart:.3g} of the largest number away from "
                    f"flash, expected at most {close}: their times would not be comparable"
                )


@torch.no_grad()
def measure(extent: Extent, dtype: str, kind: str) -> Iterator[dict[str, Any]]:
    """A row for each shape and kernel, after one for dense flash; all take turns."""
    lab = Lab(extent, DTYPES[dtype])
    kinds = {"forward": lab.forward, "backward": lab.backward}
    tried = {shape: kinds[kind](shape) for shape in shapes(extent)}
    for shape, ways in tried.items():
        compare(shape, ways, CLOSE[lab.dtype])
    functions = {"dense": lab.dense(kind)} | {
        f"{shape.name} {name}": way for shape, ways in tried.items() for name, way in ways.items()
    }
    runs = interleaved(functions, extent.repeats)
    seconds = {name: statistics.median(found) for name, found in runs.items()}
    flops = FLOPS[kind] * extent.channels * extent.heads / 1e9
    dense = flops * extent.dense**2 / seconds["dense"]
    shared = {"dtype": dtype, "pass": kind, "repeats": extent.repeats}
    yield shared | {
        "shape": f"dense {extent.dense}", "kernel": "flash", "rows": extent.dense,
        "keys": extent.dense, "seconds": seconds["dense"], "gflops": dense, "kept": dense,
        "share": 1.0,
    }  # fmt: skip
    for shape, ways in tried.items():
        for name in ways:
            taken = seconds[f"{shape.name} {name}"]
            rate = flops * shape.part.area() / taken
            yield shared | {
                "shape": shape.name, "kernel": name, "rows": shape.part.rows.width,
                "keys": shape.part.cols.width, "seconds": taken, "gflops": rate,
                "kept": flops * shape.kept / taken, "share": rate / dense,
            }  # fmt: skip


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    began, extent = machine(), QUICK if settings.quick else Extent()
    rows = [row for dtype in DTYPES for kind in PASSES for row in measure(extent, dtype, kind)]
    print(table(rows, COLUMNS))
    print("wrote", write("kernels", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, run)
