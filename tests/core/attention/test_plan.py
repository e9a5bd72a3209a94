"""Plans: disjoint parts whose union is the pattern, in memory that grows with n."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attention import (
    Causal,
    Dense,
    Dilated,
    Fixed,
    LogSparse,
    Pattern,
    Plan,
    Strided,
    Window,
    bigbird,
    sparse_transformer,
)
from core.attention.axes import Run
from core.errors import ConfigError
from tests.core.attention.helpers import PATTERNS, peaks
from tests.core.attention.test_patterns import PATTERN


def times_seen(plan: Plan) -> torch.Tensor:
    """int [N, M]: in how many parts a pair counts."""
    seen = torch.zeros(len(plan.q), len(plan.kv), dtype=torch.int64)
    for part in plan.parts:
        mask = part.mask().expand(1, part.count, part.rows.width, part.cols.width)[0]
        rows, cols = part.rows.index().long(), part.cols.index().long().clamp_min(0)
        if part.name != "rows":
            mask = mask & ~torch.isin(rows, plan.whole_rows)[..., None]
        pairs = (rows[:, :, None], cols[:, None, :])
        seen.index_put_(pairs, mask.long(), accumulate=True)
    return seen


def assert_partition(pattern: Pattern, q: range, kv: range, block: int) -> None:
    plan = pattern.plan(q, kv, block)
    i, j = torch.arange(q.start, q.stop), torch.arange(kv.start, kv.stop)
    allowed = pattern.allowed(i[:, None], j[None, :])
    assert torch.equal(times_seen(plan), allowed.long())
    assert plan.pairs() == int(allowed.sum())


@pytest.mark.parametrize("n", [1, 17, 63, 64, 65, 200])
@pytest.mark.parametrize("name", list(PATTERNS))
def test_parts_are_disjoint_and_their_union_is_the_pattern(name: str, n: int) -> None:
    assert_partition(PATTERNS[name], range(n), range(n), 8)


@settings(max_examples=100, deadline=None)
@given(PATTERN, st.tuples(*[st.integers(0, 80)] * 4), st.integers(1, 20).filter(lambda b: b != 13))
def test_parts_are_a_partition_for_any_ranges(
    pattern: Pattern, at: tuple[int, int, int, int], block: int
) -> None:
    q, kv = range(at[0], at[0] + at[1]), range(at[2], at[2] + at[3])
    assert_partition(pattern, q, kv, block)


def test_plans_are_made_once() -> None:
    plans = [bigbird(8, 2, (0,), seed=1).plan(range(100), range(100)) for _ in range(2)]
    assert plans[0] is plans[1]


def test_work_grows_with_the_length_not_its_square() -> None:
    pattern = bigbird(64, 3, (0, 1), seed=0)
    areas = [pattern.plan(range(n), range(n)).block_area() for n in (16384, 32768, 65536)]
    assert areas[1] < 2.1 * areas[0] and areas[2] < 2.1 * areas[1]
    wide = Window(256).plan(range(16384), range(16384))
    assert wide.block_area() < 1.15 * wide.pairs()


def test_work_of_regular_patterns_is_what_their_papers_say() -> None:
    n = 16384
    for pattern in (sparse_transformer(128, causal=True), Fixed(128, 1) & Causal()):
        plan = pattern.plan(range(n), range(n))
        assert plan.block_area() < 2.1 * plan.pairs() < 2.1 * 3 * n * n**0.5
        assert len(plan.parts) < 300
    plan = LogSparse().plan(range(n), range(n))
    assert plan.block_area() == plan.pairs() < 2 * n * 15
    assert all(part.full for part in plan.parts) and len(plan.parts) < 70


def test_a_window_is_read_without_a_copy() -> None:
    keys = torch.randn(2, 300, 4)
    runs = [p.cols for p in Window(16).plan(range(300), range(300), 8).parts]
    assert all(isinstance(run, Run) for run in runs)
    assert all(run.take(keys).data_ptr() >= keys.data_ptr() for run in runs)
    assert all(
        run.take(keys).untyped_storage().data_ptr() == keys.untyped_storage().data_ptr()
        for run in runs
    )


def test_unusable_ranges_are_refused() -> None:
    with pytest.raises(ConfigError, match="step 1"):
        Window(1).plan(range(0, 10, 2), range(10))
    with pytest.raises(ConfigError, match="block 0"):
        Window(1).plan(range(10), range(10), 0)


RUN = """
from core.attention import Causal, LogSparse, attend, bigbird

def run(n):
    q, k, v = (torch.zeros(1, 2, n, 16, requires_grad=True) for _ in range(3))
    pattern = (bigbird(64, 2, (0,), seed=0) | LogSparse()) & Causal()
    plan = pattern.plan(range(n), range(n))
    attend(q, k, v, plan, torch.tensor([0, n - 5]).expand(1, n, 2)).sum().backward()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_peak_memory_at_most_doubles_when_the_length_doubles() -> None:
    small, middle, large = peaks(RUN, (16384, 32768, 65536))
    assert small > 0 and middle <= 2.2 * small and large <= 2.2 * middle


def grid_by_hand(pattern: Pattern, n: int, size: int) -> int:
    at, cells = torch.arange(n), -(-n // size)
    pairs = torch.zeros(cells * size, cells * size, dtype=torch.bool)
    pairs[:n, :n] = pattern.allowed(at[:, None], at[None])
    blocks = pairs.view(cells, size, cells, size).any(3).any(1)
    return int(blocks.sum()) * size * size


@pytest.mark.parametrize("block", [8, None])
@pytest.mark.parametrize(
    "name", [name for name, p in PATTERNS.items() if "Strided" not in repr(p.terms())]
)
def test_the_grid_area_is_that_of_aligned_blocks(name: str, block: int | None) -> None:
    plan = PATTERNS[name].plan(range(203), range(203), block)
    assert plan.grid_area(8) == grid_by_hand(PATTERNS[name], 203, 8)


def test_the_grid_of_a_stride_lies_in_its_residue_classes() -> None:
    plan = Strided(7).plan(range(203), range(203))
    assert plan.grid_area(8) == 7 * grid_by_hand(Dense(), 29, 8)
    assert Dilated(9, 3).plan(range(240), range(240)).grid_area(8) == 3 * grid_by_hand(
        Window(9), 80, 8
    )
