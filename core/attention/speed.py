"""How fast this machine runs the kernels of the CPU backend: what predicted seconds rest on.

Each kernel is timed once a process, number format and thread count on small pieces, through the
backend's own functions, so that copies and sums are in the figure. It takes a few seconds.
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
from core.attention.backends.cpu import BACKWARD, FORWARD, LEVEL, TILED_ROWS, merge
from core.attention.backends.kernels import part_backward, part_forward
from core.attention.backends.narrow import narrow_backward, narrow_forward
from core.attention.backends.pieces import Piece, additive
from core.attention.backends.state import State
from core.attention.backends.tiled import looked_at, tiled_backward, tiled_forward
from core.attention.parts import Part

_GROUPS, _SIZE, _ROWS, _WINDOW = 8, 64, 8192, 512
_REPEATS, _OFTEN = 5, 15
_HEIGHTS = {"forward": (32, 64, 128, 256), "backward": (64, 192, 384)}
_SLABS = (64, 128)
_DISTANCES = 8
_SHORT = 4
_NUMBERS = (1 << 22, 1 << 24)
KEPT = 1 << 25  # bytes from which glibc gives free memory back, and asks for it again
APART, FAR = 16, 64  # rows 4 KB apart share few places of the first cache, of 16 KB of the second
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
    """Seconds that the project's own kernels take for a tile to look at a key, at one of those
    that lie `FAR` rows from each other, to begin a stretch of keys, and for a row."""

    key: float
    far: float
    stretch: float
    row: float

    def part(self, part: Part) -> float:
        """Of one head of 64 channels."""
        keys, stretches = looked_at(part)
        key = self.far if _pitch(part.cols) >= FAR else self.key
        rows = part.rows.count * part.rows.width
        return rows * self.row + stretches * self.stretch + keys * key


def _pitch(cols: KeyAxis) -> int:
    if isinstance(cols, Pick):
        return cols.slots[2]
    return cols.pitch if isinstance(cols, Run) else 1


@dataclass(frozen=True)
class Pass:
    """Speeds of one direction, all for heads of 64 channels.

    Attributes:
        tiled: of tall parts in float32.
        views, apart: of blocks whose keys are views, of neighbours and of rows `APART`.
        slabs: of blocks that gather their keys. In float32 both are as views: little is left.
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
class Memory:
    """Seconds a number of tensors that are made anew, where a pass makes less than `KEPT` bytes of
    them, and where it makes more."""

    small: float
    large: float

    def seconds(self, numbers: int, made: int) -> float:
        """Of so many numbers, in a pass that makes so many bytes in all."""
        return numbers * (self.large if made >= KEPT else self.small)


@dataclass(frozen=True)
class Speed:
    """`fresh` is what memory costs that was not in use, `convert` a tensor in another format."""

    forward: Pass
    backward: Pass
    fresh: Memory
    convert: Memory


def speed(dtype: torch.dtype) -> Speed:
    """Of this machine with the threads that torch uses now."""
    return _speed(dtype, torch.get_num_threads())


@lru_cache
@torch.no_grad()
def _speed(dtype: torch.dtype, threads: int) -> Speed:
    lab = _Lab(dtype)
    half = [torch.zeros(numbers, dtype=torch.bfloat16) for numbers in _NUMBERS]
    fresh = (_median(lambda n=n: torch.zeros(n, dtype=dtype)) / n for n in _NUMBERS)
    convert = (_median(lambda x=x: x.to(dtype)) / len(x) for x in half)
    return Speed(
        lab.measured("forward"), lab.measured("backward"), Memory(*fresh), Memory(*convert)
    )


@dataclass(frozen=True)
class _Timed:
    """Of one head: seconds, and what `looked_at` says of the part."""

    seconds: float
    rows: int
    keys: int
    stretches: int

    def without(self, stretch: float) -> float:
        """Seconds a row, if a stretch takes so many to begin."""
        return (self.seconds - self.stretches * stretch) / self.rows


class _Lab:
    """Tensors [G, N, D] and the timing of parts on them."""

    def __init__(self, dtype: torch.dtype) -> None:
        q, k, v, out, grad = torch.randn(5, _GROUPS, _ROWS, _SIZE, dtype=dtype).unbind(0)
        lse = torch.full((_GROUPS, _ROWS), 6.0, dtype=dtype)
        self.state = State(q, k, v, out, lse, grad)
        self.totals = (torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v))

    def measured(self, direction: str) -> Pass:
        views = apart = slabs = self.curve(self.window, _HEIGHTS[direction], direction)
        own = self.tiled(direction) if self.state.q.dtype == torch.float32 else None
        if own is None:  # beside the project's own kernels torch's have little to do
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
            own,
            views,
            apart,
            slabs,
            column,
            max(0.0, diagonal) / _DISTANCES,
            narrow,
            merge_rows,
        )

    def tiled(self, direction: str) -> Tiled:
        """From the same keys in short stretches and in long ones, windows of few and of many keys,
        and residue classes."""
        rows, keys = Run.single(0, 1024), torch.arange(256)
        apart = keys + keys // _SHORT * _SHORT
        long, short = (self.timed(self.part(rows, Pick(x[None])), direction) for x in (keys, apart))
        few, many = (
            self.timed(self.window(TILED_ROWS, width, direction), direction)
            for width in (64, _WINDOW)
        )
        far = self.timed(self.residues(_ROWS // FAR, _WINDOW, direction, FAR), direction)
        stretch = max(0.0, short.seconds - long.seconds) / (short.stretches - long.stretches)
        key = max(0.0, many.without(stretch) - few.without(stretch)) / (
            many.keys / many.rows - few.keys / few.rows
        )
        row = max(0.0, many.without(stretch) - key * many.keys / many.rows)
        away = (far.without(stretch) - row) * far.rows / far.keys
        return Tiled(key, max(key, away), stretch, row)

    def timed(self, part: Part, direction: str) -> _Timed:
        """A part by the project's own kernels."""
        piece = Piece(slice(_GROUPS), part, None, None)
        out, lse = self.totals[0], self.state.lse.to(LEVEL)
        seconds = (
            _median(lambda: tiled_backward([piece], self.state, self.totals, 0.125), _OFTEN)
            if direction == "backward"
            else _median(lambda: tiled_forward([piece], self.state[:3], out, lse, 0.125), _OFTEN)
        )
        return _Timed(seconds / _GROUPS, part.rows.count * part.rows.width, *looked_at(part))

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

    def residues(self, height: int, keys: int, direction: str, apart: int = APART) -> Part:
        """A block of each residue class; the queries' keys begin with their own."""
        fits = min(keys, _ROWS // apart)
        return self.part(Run(0, 1, apart, height, apart), Run(0, 1, apart, fits, apart), right=0)

    def slab(self, height: int, keys: int, direction: str) -> Part:
        lines = FORWARD.numbers if direction == "forward" else BACKWARD.numbers
        slots = max(1, keys // height)
        count = max(1, lines // (_GROUPS * _SIZE * max(height, slots * height)))
        first = torch.randint(_ROWS // height, (count, slots)) * height
        return self.part(Run(0, height, count, height), KeyBlocks(first, height, _ROWS))

    def seconds(self, part: Part, direction: str) -> float:
        mask = None if part.full else additive(part.mask(), self.state.q.dtype)[0]
        q, k, v = self.state.q, self.state.k, self.state.v
        out, lse = self.totals[0], self.state.lse.to(LEVEL)
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
        lse = self.state.lse[:, :rows].to(LEVEL)
        return _median(lambda: merge(out, lse, found, lse.clone())) / (_GROUPS * rows)


def _median(function: Callable[[], Tensor | None], repeats: int = _REPEATS) -> float:
    function()
    runs: list[float] = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        runs.append(time.perf_counter() - begin)
    return statistics.median(runs)
