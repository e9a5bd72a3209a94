"""How fast this machine runs the kernels of the CPU backend: what predicted seconds rest on.

Each kernel is timed once a process, number format and thread count on small pieces, through the
backend's own functions, so that copies and sums are in the figure. It takes about a second.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from core.attention.axes import KeyAxis, KeyBlocks, Pick, Run, Shifts
from core.attention.backends.cpu import BACKWARD, FORWARD, TILED_ROWS, merge
from core.attention.backends.kernels import part_backward, part_forward
from core.attention.backends.narrow import narrow_backward, narrow_forward
from core.attention.backends.pieces import Piece, additive
from core.attention.backends.state import State
from core.attention.backends.tiled import lanes_area, tiled_backward, tiled_forward
from core.attention.parts import Part

_GROUPS, _SIZE, _ROWS, _WINDOW = 8, 64, 8192, 512
_REPEATS = 5
_HEIGHTS = {"forward": (32, 64, 128, 256), "backward": (64, 192, 384)}
_SLABS = (64, 128)
_DISTANCES = 8
APART = 16  # rows 4 KB apart or more share few places of a cache
_APART = {"forward": (32, 64, 256, 512), "backward": (64, 192, 512)}


@dataclass(frozen=True)
class Curve:
    """Seconds of a block of at least so many rows, a pair and a row, for a head of 64 channels."""

    heights: tuple[int, ...]
    pair: tuple[float, ...]
    row: tuple[float, ...]

    def block(self, height: int, keys: int) -> float:
        at = max(0, bisect_right(self.heights, height) - 1)
        return height * (self.row[at] + keys * self.pair[at])


@dataclass(frozen=True)
class Tiled:
    """Seconds that the project's own kernels take for a lane of a key and for a row."""

    pair: float
    row: float

    def part(self, part: Part) -> float:
        """Of one head of 64 channels."""
        return part.rows.count * part.rows.width * self.row + lanes_area(part) * self.pair


@dataclass(frozen=True)
class Pass:
    """Speeds of one direction, all for heads of 64 channels.

    Attributes:
        tiled: of tall parts in float32.
        views, apart: of blocks whose keys are views, of neighbours and of rows `APART`.
        slabs: of blocks that gather their keys.
        column, diagonal: seconds a row for one key of a narrow part.
        narrow: seconds a row of a narrow part whatever its keys.
        merge: seconds a row to add a part to what others found.
    """

    tiled: Tiled | None
    views: Curve
    apart: Curve
    slabs: Curve
    column: float
    diagonal: float
    narrow: float
    merge: float


@dataclass(frozen=True)
class Speed:
    """`fresh` is the seconds a number of memory that was not in use costs, `convert` those of a
    number that changes its format."""

    forward: Pass
    backward: Pass
    fresh: float
    convert: float


def speed(dtype: torch.dtype) -> Speed:
    """Of this machine with the threads that torch uses now."""
    return _speed(dtype, torch.get_num_threads())


@lru_cache
@torch.no_grad()
def _speed(dtype: torch.dtype, threads: int) -> Speed:
    lab = _Lab(dtype)
    large = _GROUPS * _ROWS * _SIZE
    half = lab.state.q.bfloat16()
    return Speed(
        lab.measured("forward"),
        lab.measured("backward"),
        _median(lambda: torch.zeros(large, dtype=dtype)) / large,
        _median(lambda: half.to(dtype)) / large,
    )


class _Lab:
    """Tensors [G, N, D] and the timing of parts on them."""

    def __init__(self, dtype: torch.dtype) -> None:
        q, k, v, out, grad = torch.randn(5, _GROUPS, _ROWS, _SIZE, dtype=dtype).unbind(0)
        lse = torch.full((_GROUPS, _ROWS), 6.0, dtype=dtype)
        self.state = State(q, k, v, out, lse, grad)
        self.totals = (torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v))

    def measured(self, direction: str) -> Pass:
        views = self.curve(self.window, _HEIGHTS[direction], direction)
        apart = self.curve(self.residues, _APART[direction], direction)
        slabs = self.curve(self.slab, _SLABS, direction)
        count = 1024
        one, two, many = (
            self.part(Run.single(0, count), Pick(torch.arange(keys)[None])) for keys in (1, 2, 16)
        )
        shifts = self.part(
            Run(0, 1, count, 1), Shifts(_WINDOW, count, tuple(range(0, 64 * _DISTANCES, 64)))
        )
        columns = [self.seconds(part, direction) / _GROUPS / count for part in (one, two, many)]
        column = max(0.0, columns[2] - columns[1]) / 14
        narrow = max(0.0, columns[0] - column)
        diagonal = self.seconds(shifts, direction) / _GROUPS / count - narrow
        merge_rows = self.merged() if direction == "forward" else 0.0
        return Pass(
            self.tiled(direction) if self.state.q.dtype == torch.float32 else None,
            views,
            apart,
            slabs,
            column,
            max(0.0, diagonal) / _DISTANCES,
            narrow,
            merge_rows,
        )

    def tiled(self, direction: str) -> Tiled:
        """From windows of few and of many keys."""
        parts = [self.window(TILED_ROWS, keys, direction) for keys in (64, _WINDOW)]
        a, b = (self.tiled_seconds(part, direction) / _GROUPS / part.rows.count for part in parts)
        few, many = (lanes_area(part) / part.rows.count for part in parts)
        pair = max(0.0, b - a) / (many - few)
        return Tiled(pair, max(0.0, b - pair * many) / TILED_ROWS)

    def tiled_seconds(self, part: Part, direction: str) -> float:
        piece = Piece(slice(_GROUPS), part, *additive(part.mask(), self.state.q.dtype))
        if direction == "backward":
            return _median(lambda: tiled_backward([piece], self.state, self.totals, 0.125))
        out, lse = self.totals[0], self.state.lse.clone()
        return _median(lambda: tiled_forward([piece], self.state[:3], out, lse, 0.125))

    def part(self, rows: Run, cols: KeyAxis, right: int | None = None) -> Part:
        return Part("band", (0, 0), rows, cols, right=right)

    def curve(
        self, part: Callable[[int, int, str], Part], heights: tuple[int, ...], direction: str
    ) -> Curve:
        """From blocks of few and of many keys: what a pair adds, and what a row costs without."""
        pairs: list[float] = []
        rows: list[float] = []
        for height in heights:
            few, many = (part(height, keys, direction) for keys in (64, _WINDOW))
            a, b = (
                self.seconds(one, direction) / (_GROUPS * one.rows.count * height)
                for one in (few, many)
            )
            pair = max(0.0, b - a) / (many.cols.width - few.cols.width)
            pairs.append(pair)
            rows.append(max(0.0, b - pair * many.cols.width))
        return Curve(heights, tuple(pairs), tuple(rows))

    def window(self, height: int, keys: int, direction: str) -> Part:
        width = height + keys
        lines = FORWARD.numbers if direction == "forward" else BACKWARD.numbers
        tall = height if direction == "forward" else width
        fits = min(max(1, lines // (_GROUPS * _SIZE * tall)), (_ROWS - width) // height)
        rows = Run(0, height, fits, height)
        return self.part(rows, Run(0, height, fits, width), right=keys)

    def residues(self, height: int, keys: int, direction: str) -> Part:
        """A block of each residue class; the queries' keys begin with their own."""
        fits = min(keys, _ROWS // APART)
        return self.part(Run(0, 1, APART, height, APART), Run(0, 1, APART, fits, APART), right=0)

    def slab(self, height: int, keys: int, direction: str) -> Part:
        lines = FORWARD.numbers if direction == "forward" else BACKWARD.numbers
        slots = max(1, keys // height)
        count = max(1, lines // (_GROUPS * _SIZE * max(height, slots * height)))
        first = torch.randint(_ROWS // height, (count, slots)) * height
        return self.part(Run(0, height, count, height), KeyBlocks(first, height, _ROWS))

    def seconds(self, part: Part, direction: str) -> float:
        mask = None if part.full else additive(part.mask(), self.state.q.dtype)[0]
        q, k, v = self.state.q, self.state.k, self.state.v
        out, lse = self.totals[0], self.state.lse.clone()
        dq, dk, dv = self.totals
        if direction == "backward":
            backward = narrow_backward if part.narrow else part_backward
            return _median(lambda: backward(part, mask, self.state, (dq, dk, dv), 0.125))
        if part.narrow:
            return _median(lambda: narrow_forward(part, mask, (q, k, v), 0.125, out, lse))

        def forward() -> None:
            found, level = part_forward(part, mask, q, k, v, 0.125)
            part.rows.put(out, found)
            part.rows.put(lse[..., None], level[..., None])

        return _median(forward)

    def merged(self) -> float:
        rows = 1024
        out, found = (x[:, :rows].contiguous() for x in (self.state.q, self.state.k))
        lse = self.state.lse[:, :rows].contiguous()
        return _median(lambda: merge(out, lse, found, lse.clone())) / (_GROUPS * rows)


def _median(function: Callable[[], Tensor | None]) -> float:
    function()
    runs: list[float] = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        function()
        runs.append(time.perf_counter() - begin)
    return statistics.median(runs)
