"""The project's own kernels: where they run, on how many threads, and what they make of numbers
that are none. Their values and gradients are compared in test_exact."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from core.attention import (
    Causal,
    Global,
    Pattern,
    TopK,
    Window,
    attend,
    bigbird,
    sparse_transformer,
)
from core.attention.backends import cpu, pieces, tiled
from core.attention.backends.pieces import Piece
from core.attention.plan import Plan
from tests.core.attention.helpers import assert_same, gradients, inputs

N = 300
SOME: dict[str, Pattern] = {
    "window": Window(20),
    "causal": Window(20) & Causal(),
    "bigbird": bigbird(16, 2, (0, 33), seed=1),
    "strided": sparse_transformer(11),
    "topk": TopK(3, block=16),
}
each_pattern = pytest.mark.parametrize("pattern", SOME.values(), ids=SOME.keys())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def found(pattern: Pattern, batch: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """out, lse and the gradients of q, k and v."""
    q, k, v = inputs(N, batch=batch, dtype=dtype, size=32)
    out, lse = attend(q, k, v, pattern.plan(range(N), range(N)), return_lse=True)
    return [out.detach(), lse.detach(), *gradients(out, [q, k, v])]


@pytest.mark.parametrize("batch", [1, 3])
@each_pattern
def test_threads_change_nothing(
    pattern: Pattern, batch: int, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 7 threads and 2 heads blocks of a head are shared out, with 6 heads threads idle."""
    monkeypatch.setattr(tiled, "_SMALL", 0)
    torch.set_num_threads(1)
    expected = found(pattern, batch)
    for count in (2, 4, 7):
        torch.set_num_threads(count)
        again = found(pattern, batch)
        assert all(torch.equal(a, b) for a, b in zip(again[:3], expected[:3], strict=True))
        assert_same(again[3:], expected[3:], 1e-5)  # sums of keys have another order


def test_what_a_thread_raises_is_raised_when_all_have_ended(threads: None) -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("in a thread")

    def work() -> None:
        time.sleep(0.1)
        done.append(1)

    for tasks in ([work, fail], [fail, work], [work, fail, work]):
        done.clear()
        with pytest.raises(ValueError, match="in a thread"):
            tiled._side_by_side(tasks)
        assert len(done) == len(tasks) - 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "_SMALL", 0)
    torch.set_num_threads(2)
    q = torch.randn(1, 2, N, 16)
    plan = Window(20).plan(range(N), range(N))
    expected = attend(q, q, q, plan)
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = torch.equal(attend(q, q, q, plan), expected)
        finally:
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(attend(q, q, q, plan), expected)


@pytest.mark.parametrize(
    ("dtype", "size", "own"),
    [(torch.float32, 16, True), (torch.bfloat16, 48, True), (torch.float32, 24, True),
     (torch.float64, 16, False)],
)  # fmt: skip
def test_which_kernel_runs(
    dtype: torch.dtype, size: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("tiled_forward", "tiled_backward", "part_forward", "part_backward"):
        kernel = getattr(cpu, name)

        def spy(*args, kernel=kernel, name=name):
            calls.append(name)
            return kernel(*args)

        monkeypatch.setattr(cpu, name, spy)
    given = inputs(N, dtype=dtype, size=size)
    attend(*given, Window(20).plan(range(N), range(N))).sum().backward()
    kinds = {"tiled_forward", "tiled_backward"} if own else {"part_forward", "part_backward"}
    assert set(calls) == kinds


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_number_that_is_none_reaches_the_rows_that_see_it(which: int) -> None:
    """And in keys and values perhaps rows beside them: 0 times NaN is NaN."""
    given = [x.detach() for x in inputs(N, batch=1, dtype=torch.float32, size=16)]
    given[which][0, 1, 100, 3] = torch.nan
    given = [x.requires_grad_() for x in given]
    out, lse = attend(*given, Window(20).plan(range(N), range(N)), return_lse=True)
    none = out.isnan().any(-1)
    far = (torch.arange(N) - 100).abs()
    assert bool(none[0, 1, far <= (20 if which else 0)].all())
    assert not bool(none[0, 1, far > (20 + 64 if which else 0)].any()) and not bool(
        none[0, 0].any()
    )
    if which < 2:
        assert torch.equal(lse.isnan(), none)
    for grad in torch.autograd.grad(out.sum(), given)[: 2 if which == 2 else 3]:
        assert bool(grad[0, 1].isnan().any()) and not bool(grad[0, 0].isnan().any())


def relative_errors(q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> Tensor:
    """Of out and the gradients of q and v against float64, each by its largest number."""
    results: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        some = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out = attend(*some, plan)
        dq, _, dv = gradients(out, some)
        results.append([x.double() for x in (out.detach(), dq, dv)])
    pairs = zip(*results, strict=True)
    return torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs])


@pytest.mark.parametrize("factor", [1e3, 1e5, 1e8])
def test_scores_far_apart_lose_no_more_than_with_torchs_kernel(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = inputs(N, batch=1, dtype=torch.float32, size=16)
    plan = Window(20).plan(range(N), range(N))
    ours = relative_errors(q * factor, k, v, plan)
    monkeypatch.setattr(cpu, "serves", lambda *_: False)
    torchs = relative_errors(q * factor, k, v, plan)
    assert bool((ours <= 2 * torchs + 1e-6).all())


def test_long_rows_lose_no_more_than_with_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = 1 << 16
    plan = (Window(keys) & Causal()).plan(range(keys - 64, keys), range(keys))
    q, k, v = inputs(64, keys, batch=1, dtype=torch.float32, size=16)
    ours = relative_errors(q, k, v, plan)
    monkeypatch.setattr(cpu, "serves", lambda *_: False)
    assert bool((ours <= 2 * relative_errors(q, k, v, plan)).all())


def test_rows_left_over_by_a_cut_keep_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of 32 rows cut 99 rows of columns into pieces, of which the last is too low to tile."""
    monkeypatch.setattr(pieces, "MASK_AREA", 32 * 20)
    pattern = (Global(tuple(range(0, 60, 3))) | Window(4)) & Causal()
    plan = pattern.plan(range(99), range(99), 33)
    ends = torch.randint(0, 100, (2, 99, 2), generator=torch.Generator().manual_seed(0))
    bounds = ends.sort(-1).values.int()
    given = inputs(99, batch=2, dtype=torch.float32, size=16)
    q, k, v = (x.detach().double().requires_grad_() for x in given)
    out, expected = attend(*given, plan, bounds), attend(q, k, v, plan, bounds)
    ours = [out, *gradients(out, list(given))]
    theirs = [expected, *gradients(expected, [q, k, v])]
    assert_same([x.double() for x in ours], theirs, 5e-5)


@pytest.mark.parametrize("size", [16, 40, 64])
def test_a_row_with_one_key_sends_queries_and_keys_no_gradient(size: int) -> None:
    """Whatever the scores: the slope of its weight and the mean of all are one number."""
    at = torch.arange(N)
    bounds = torch.stack((at, at + 1), -1)[None].int()
    given = list(inputs(N, dtype=torch.float32, size=size))
    out = attend(*given, Window(20).plan(range(N), range(N)), bounds)
    dq, dk, _ = gradients(out, given)
    assert torch.equal(out, given[2])
    assert bool((dq == 0).all()) and bool((dk == 0).all())


_GENERIC = """
import torch
from core.attention import attend, bigbird
from core.fused.products import ACROSS, TALL
assert (TALL, ACROSS) == (6, 1)
given = [x.requires_grad_() for x in torch.randn(3, 1, 2, 300, 48).unbind(0)]
wide = [x.detach().double().requires_grad_() for x in given]
plan = bigbird(16, 2, (0, 33), seed=1).plan(range(300), range(300))
found = []
for some in (given, wide):
    out = attend(*some, plan)
    found.append([out, *torch.autograd.grad(out.square().sum(), some)])
for ours, true in zip(*found):
    torch.testing.assert_close(ours.double(), true, rtol=1e-4, atol=1e-4)
"""


def test_a_processor_with_small_registers(tmp_path) -> None:
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", _GENERIC], env=env, check=True, timeout=300)


@pytest.mark.parametrize("name", ["window", "bigbird", "strided"])
def test_the_kernels_give_back_what_they_were_given(name: str) -> None:
    """What compiled code holds on to is never freed: a training would fill the memory."""
    q, k, v = inputs(N, batch=1, dtype=torch.float32, size=16)
    plan = SOME[name].plan(range(N), range(N))
    assert isinstance(plan, Plan)

    def step() -> None:
        gradients(attend(q, k, v, plan), [q, k, v])

    step()
    pieces = [one for some in plan.prepared.values() if isinstance(some, list) for one in some]
    arrays = [
        x
        for piece in pieces
        if isinstance(piece, Piece) and "blocks" in piece.derived
        for x in piece.derived["blocks"]
        if isinstance(x, np.ndarray)
    ]
    held = [sys.getrefcount(x) for x in arrays]
    step()
    assert arrays and [sys.getrefcount(x) for x in arrays] == held
