"""Seconds that a plan will take, part by part, from the speeds of this machine's kernels."""

from __future__ import annotations

import statistics
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from core.attention.attend import attend
from core.attention.axes import KeyBlocks, Run, Shifts, Slots
from core.attention.backends.cpu import filling, rows_of, serves
from core.attention.backends.source import compute_dtype
from core.attention.parts import Part
from core.attention.patterns import Window
from core.attention.speed import APART, Pass, Speed, speed
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.attention.plan import Plan

_MEASURED = 64  # channels of a head that the CPU's speeds are for
_CUDA_BLOCK = 128


def predicted(
    plan: Plan, size: int, groups: int, dtype: torch.dtype, device: str
) -> tuple[float, float]:
    """Seconds of forward and backward for `groups` heads, those of all sequences together."""
    if device == "cpu":
        return cpu_seconds(plan, size, groups, dtype)
    if device == "cuda" and torch.cuda.is_available():
        forward, backward = _cuda_pair_seconds(size, dtype)
        pairs = groups * plan.grid_area(_CUDA_BLOCK)
        return pairs * forward, pairs * backward
    raise ConfigError(
        f"cost: got device {device!r}, expected 'cpu', or 'cuda' on a machine with a GPU"
    )


def cpu_seconds(plan: Plan, size: int, groups: int, dtype: torch.dtype) -> tuple[float, float]:
    """Forward and backward of `groups` heads (of all sequences) of `size` channels."""
    own = compute_dtype(dtype)
    known = speed(own)
    size += filling(dtype, size)
    wide = size / _MEASURED
    queries, keys = (groups * size * len(rows) for rows in (plan.q, plan.kv))
    converted = 0 if dtype == own else queries + keys
    forward, backward = (
        known.fresh.seconds(made, (made + changed) * own.itemsize)
        + known.convert.seconds(changed, (made + changed) * own.itemsize)
        for made, changed in ((queries, 2 * converted), (queries + 2 * keys, 4 * converted))
    )
    tiled = serves(dtype)
    for part in plan.at(rows_of(tiled, backward=False)).parts:
        forward += wide * groups * _part(part, known.forward, tiled)
    for part in plan.at(rows_of(tiled, backward=True)).parts:
        backward += wide * groups * _part(part, known.backward, tiled)
    return forward + _choosing(plan, known, wide * groups), backward


@lru_cache
def _cuda_pair_seconds(size: int, dtype: torch.dtype) -> tuple[float, float]:
    """Forward and backward of the flex backend, from windows enough to fill a GPU."""
    n, heads, batch, calls = 16384, 8, 8, 5
    plan = Window(512).plan(range(n), range(n))
    q, k, v = torch.randn(3, batch, heads, n, size, dtype=dtype, device="cuda").unbind(0)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    grad = torch.ones_like(q)

    def run(train: bool) -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            with torch.set_grad_enabled(train):
                out = attend(q, k, v, plan, backend="flex")
            if train:
                torch.autograd.grad(out, (q, k, v), grad)
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / calls

    forward, both = (
        statistics.median([run(train) for _ in range(6)][1:]) for train in (False, True)
    )
    pairs = batch * heads * plan.grid_area(_CUDA_BLOCK)
    return forward / pairs, max(0.0, both - forward) / pairs


def _part(part: Part, known: Pass, tiled: bool) -> float:
    """Seconds of a part for one head of 64 channels."""
    if tiled and part.tall and known.tiled is not None:
        return known.tiled.part(part)
    rows = part.rows.count * part.rows.width
    if part.narrow:
        each = known.diagonal if isinstance(part.cols, Shifts) else known.column
        return rows * (known.narrow + part.cols.width * each)
    if isinstance(part.cols, KeyBlocks | Slots):
        curve = known.slabs
    else:
        far = isinstance(part.cols, Run) and part.cols.pitch >= APART
        curve = known.apart if far else known.views
    merged = 0.0 if part.starts or part.name == "rows" else rows * known.merge
    blocks = part.rows.count * curve.block(part.rows.width, part.cols.width)
    return blocks + merged


def _choosing(plan: Plan, known: Speed, heads: float) -> float:
    """Seconds in which mean queries meet mean keys; two products where attention has four."""
    pairs = 0
    for part in plan.parts:
        if isinstance(part.cols, Slots):
            pairs += (len(plan.q) // part.cols.size) * (len(plan.kv) // part.cols.size)
    return heads * known.forward.views.block(1, pairs)
