"""The FlexAttention backend on a CPU: what its lists and its rule compute, and what it compiles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.nn.attention import flex_attention as torch_flex

from core.attention import (
    Causal,
    Dilated,
    Fixed,
    Global,
    HeadGroups,
    LogSparse,
    Pattern,
    Random,
    Strided,
    TopK,
    Window,
    attend,
    attend_sources,
    longformer,
)
from core.attention.backends import flex as backend
from core.attention.plan import build_plan
from core.attention.tiles import chosen, grids, rules
from core.attention.tiles.few import Few
from core.attention.tiles.grid import Grid
from core.attention.tiles.grids import grids_of
from core.attention.tiles.views import bucket
from core.errors import ConfigError
from tests.core.attention import blocks
from tests.core.attention.helpers import PATTERNS, assert_same, gradients, inputs
from tests.core.attention.test_attend import random_bounds, run
from tests.core.attention.test_blocks import OWN
from tests.core.attention.test_inference import inference_tensors
from tests.core.attention.test_learned import MIXED

CPU = torch.device("cpu")
LEARNED: dict[str, Pattern] = {
    **{f"topk-{name}": pattern for name, pattern in MIXED.items()},
    "topk": TopK(3, block=8),
    "topk-causal": TopK(3, block=8) & Causal(),
    "topk-large": TopK(1, block=200) & Causal(),
    "topk-tiles": TopK(3, block=128),
    "topk-tiles-causal": TopK(2, block=256) & Causal(),
}
ALL = {**PATTERNS, **OWN, **LEARNED}
KINDS = ["window-causal", "everything-causal", "dilated", "many-globals", "topk-causal"]


@pytest.fixture
def by_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Listed blocks are computed as the compiled kernel does, gradients included."""
    kernels = backend._Kernels(blocks.attention, backend.merge, backend.join)
    monkeypatch.setattr(backend, "_kernels", lambda _: kernels)
    monkeypatch.setattr(backend, "_refuse", lambda *_: None)
    grids_of.cache_clear()
    yield
    grids_of.cache_clear()


@pytest.fixture
def all_in_blocks(by_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few global tokens are."""
    monkeypatch.setattr(grids, "FEW", 0)


@pytest.mark.parametrize("n", [1, 129, 1000])
@pytest.mark.parametrize("name", list(ALL))
def test_listed_blocks_and_rule_give_the_reference(name: str, n: int, by_blocks: None) -> None:
    q, k, v = inputs(n, batch=1)
    plan = ALL[name].plan(range(n), range(n), 8)
    assert_same(run(q, k, v, plan, None, "flex"), run(q, k, v, plan, None, "reference"))


@pytest.mark.parametrize("name", [*KINDS, "global-window"])
def test_training_after_inference_is_as_without(name: str, by_blocks: None) -> None:
    n = 300
    given = inputs(n, batch=1)
    plan = ALL[name].plan(range(n), range(n), 8)
    expected = run(*given, plan, None, "flex")
    for cache in (build_plan, grids_of, rules._number, chosen._frame, chosen._limits):
        cache.cache_clear()
    with torch.inference_mode():
        plan = ALL[name].plan(range(n), range(n), 8)
        attend(*given, plan, backend="flex")
        assert not inference_tensors()
    assert_same(run(*given, plan, None, "flex"), expected)


@pytest.mark.parametrize("name", list(ALL))
def test_bounds_and_ranges_give_the_reference(name: str, by_blocks: None) -> None:
    # a choice asks for all the queries of its block rows
    cut = (range(320), range(16, 320)) if name in LEARNED else (range(37, 320), range(11, 340))
    for q_at, kv_at in ((range(300), range(300)), cut):
        q, k, v = inputs(len(q_at), len(kv_at))
        plan = ALL[name].plan(q_at, kv_at, 8)
        for batch in (1, 2):
            bounds = random_bounds(batch, len(q_at), len(kv_at))
            assert_same(run(q, k, v, plan, bounds, "flex"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", ["longformer", "mixed-globals", "everything-causal", "global"])
def test_global_rows_in_stretches_give_the_reference(
    name: str, all_in_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "WALK", 0)
    monkeypatch.setattr(grids, "_STRETCH", 1)
    q, k, v = inputs(500)
    for at in (range(500), range(3, 503)):
        plan = ALL[name].plan(at, at, 8)
        rows = grids_of(plan, CPU).rows
        assert isinstance(rows, Grid) and rows.view.stretches == 4
        for bounds in (None, random_bounds(2, 500, 500)):
            assert_same(run(q, k, v, plan, bounds, "flex"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", ["longformer", "mixed-globals", "everything-causal", "global"])
def test_global_tokens_in_blocks_give_the_reference(name: str, all_in_blocks: None) -> None:
    for at in (range(300), range(3, 303)):
        q, k, v = inputs(300)
        plan = ALL[name].plan(at, at, 8)
        found = grids_of(plan, CPU)
        assert found.columns is None and found.rows is None
        for bounds in (None, random_bounds(2, 300, 300)):
            assert_same(run(q, k, v, plan, bounds, "flex"), run(q, k, v, plan, bounds, "reference"))


def test_a_few_global_tokens_are_in_no_block(by_blocks: None) -> None:
    found = grids_of(ALL["longformer"].plan(range(300), range(300), 8), CPU)
    assert isinstance(found.columns, Few) and isinstance(found.rows, Few)
    (grid,) = found.merged
    assert not bool((grid.col_FK[0] == found.columns.cols[:, None]).any())


def test_scattered_columns_are_copied_side_by_side(all_in_blocks: None) -> None:
    n = 1000
    for pattern in (
        Window(20) | Global(tuple(range(0, n, 100))),
        (Window(20) | Global(tuple(range(0, n, 100)))) & Causal(),
        Fixed(50, 2) & Causal(),
        (Global(tuple(range(5, n, 90))) & Window(200)) | Random(1, seed=1) | Window(90),
    ):
        plan = pattern.plan(range(n), range(n))
        (grid,) = grids_of(plan, CPU).merged
        assert grid.col_FK.shape[1] == bucket(n) + 128
        q, k, v = inputs(n, batch=1)
        assert_same(run(q, k, v, plan, None, "flex"), run(q, k, v, plan, None, "reference"))


def test_rows_without_keys_are_zero_and_send_no_gradient(by_blocks: None) -> None:
    for bounds in (torch.zeros(2, 70, 2, dtype=torch.int32), None):
        at = range(70) if bounds is not None else range(500, 570)
        plan = PATTERNS["dilated-window"].plan(at, range(70), 8)
        q, k, v = inputs(70)
        out, lse, *grads = run(q, k, v, plan, bounds, "flex")
        assert bool((out == 0).all()) and bool((lse == -torch.inf).all())
        assert all(bool((grad == 0).all()) for grad in grads)


def test_no_queries_and_no_keys_are_answered(by_blocks: None) -> None:
    for n, m in ((0, 20), (20, 0)):
        q, k, v = inputs(n, m)
        out, lse = attend(
            q, k, v, Window(3).plan(range(n), range(m)), backend="flex", return_lse=True
        )
        assert out.shape == q.shape and lse.shape == q.shape[:3]
        assert bool((out == 0).all()) and bool((lse == -torch.inf).all())


def test_sources_equal_one_softmax_over_all_keys(by_blocks: None) -> None:
    n = 150
    q, k, v = inputs(n)
    _, k_other, v_other = inputs(n, seed=1)
    at = torch.arange(n)
    middle = torch.stack([(at - 6).clamp_min(0)] * 2).int()
    low = torch.stack([torch.zeros_like(middle), middle], -1)
    high = torch.stack([middle, torch.stack([at + 1] * 2).int()], -1)
    leaves = [q, k, v, k_other, v_other]
    for name in KINDS:
        plan = ALL[name].plan(range(n), range(n), 8)
        sources = [(k, v, plan, low), (k_other, v_other, plan, high)]
        results: list[list[Tensor]] = []
        for kind in ("flex", "reference"):
            out, lse = attend_sources(q, sources, backend=kind, return_lse=True)
            results.append([out, lse, *gradients(out, leaves)])
        assert_same(*results)


def test_grouped_queries_equal_keys_copied_for_every_head(by_blocks: None) -> None:
    q = torch.cat([x for x in inputs(140)[:2]], 1).detach().requires_grad_()  # 4 heads
    k, v = (x.detach()[:, :2].clone().requires_grad_() for x in inputs(140, seed=1)[1:])
    for name in KINDS:
        plan = ALL[name].plan(range(140), range(140), 8)
        assert_same(run(q, k, v, plan, None, "flex"), run(q, k, v, plan, None, "reference"))


def test_head_groups_equal_the_reference(by_blocks: None) -> None:
    q, k, v = inputs(140)
    pattern = HeadGroups(((ALL["window-causal"], 1), (ALL["everything-causal"], 1)))
    plan = pattern.plan(range(140), range(140))
    for bounds in (None, random_bounds(2, 140, 140)):
        assert_same(run(q, k, v, plan, bounds, "flex"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", KINDS)
def test_flex_itself_and_its_gradients_give_the_reference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plain definition has gradients on a CPU too, once it is not asked about the device."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(backend, "_refuse", lambda *_: None)
    q, k, v = inputs(129)
    plan, bounds = ALL[name].plan(range(129), range(129), 8), random_bounds(2, 129, 129)
    assert_same(run(q, k, v, plan, bounds, "flex"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_on_a_cpu_is_flex_uncompiled(name: str, dtype: torch.dtype) -> None:
    q, k, v = inputs(129, dtype=dtype)
    plan = ALL[name].plan(range(129), range(129), 8)
    with torch.no_grad():
        out, lse = attend(q, k, v, plan, backend="flex", return_lse=True)
        wide = [x.double() for x in (q, k, v)]
        expected = attend(*wide, plan, backend="reference", return_lse=True)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert out.dtype == dtype and lse.dtype == torch.float32
    assert_same([out.double(), lse.double()], list(expected), tolerance)


def test_a_cpu_refuses_gradients_and_long_sequences() -> None:
    q, k, v = inputs(10)
    with pytest.raises(ConfigError, match="require gradients"):
        attend(q, k, v, Window(2).plan(range(10), range(10)), backend="flex")
    n = 20000
    q = torch.zeros(1, 1, n, 1)
    with pytest.raises(ConfigError, match="400000000 scores on a CPU"):
        attend(q, q, q, Window(2).plan(range(n), range(n)), backend="flex")
    meta = q[:, :, :10].to("meta")
    with pytest.raises(ConfigError, match="expected CUDA or CPU"):
        attend(meta, meta, meta, Window(2).plan(range(10), range(10)), backend="flex")


def test_buckets_waste_an_eighth_at_most() -> None:
    assert [bucket(n) for n in (0, 1, 128, 129, 1000, 2048, 2049)] == [
        *(128, 128, 128, 256, 1024, 2048, 2304)
    ]
    lengths = range(2048, 1 << 20, 997)
    assert all(n <= bucket(n) <= 1.125 * n and bucket(n) % 128 == 0 for n in lengths)
    assert len({bucket(n) for n in lengths}) <= 8 * 9 + 1


OF_A_KIND: dict[str, list[Pattern]] = {
    "windows": [Window(10), Window(30) & Causal(), Causal(), Window(3) | (Window(9) & Causal())],
    "longformers": [longformer(12, (0, 20)), longformer(20, (3, 4, 90), causal=True)],
    "random": [Random(2, seed=1) & Causal(), Random(2, seed=7)],
    "strides": [Strided(5) & Causal(), Strided(5), Dilated(30, 5)],
    "fixed": [Fixed(100, 8), Fixed(120, 9) & Causal()],
    "log": [LogSparse(), LogSparse() & Causal()],
    "log-of-3": [LogSparse(3), LogSparse(5) & Causal()],
    "topk": [TopK(3, block=64) & Causal(), TopK(3, block=64)],
}


def compiled_frames(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Counts what would be compiled, here to plain operations."""
    torch._dynamo.reset()
    counter = CompileCounter()
    attention = torch.compile(torch_flex.flex_attention, backend=counter, fullgraph=True)
    kernels = backend._Kernels(attention, backend.merge, backend.join)
    monkeypatch.setattr(backend, "_kernels", lambda _: kernels)
    return counter


def forward(pattern: Pattern, n: int, batch: int, bounded: bool) -> None:
    q, k, v = inputs(n, batch=batch, dtype=torch.float32)
    plan, bounds = pattern.plan(range(n), range(n)), random_bounds(batch, n, n) if bounded else None
    with torch.no_grad():
        found = attend(q, k, v, plan, bounds, backend="flex")
        assert_same([found], [attend(q, k, v, plan, bounds, backend="reference")], 1e-5)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("kind", list(OF_A_KIND))
def test_one_kernel_serves_the_lengths_of_a_bucket_and_the_patterns_of_a_kind(
    kind: str, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = compiled_frames(monkeypatch)
    for n in (400, 450, 512):
        for pattern in OF_A_KIND[kind]:
            forward(pattern, n, 2, bounded)
    assert counter.frame_count == 1


def test_lengths_of_all_buckets_and_all_batches_take_few_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = compiled_frames(monkeypatch)
    for batch, n in ((2, 300), (2, 400), (3, 500), (4, 600), (5, 1000), (2, 700), (3, 1100)):
        forward(longformer(12, (0, 20)), n, batch, bounded=True)
    assert counter.frame_count <= 3  # as found first, with any length, with any batch


def test_lists_of_a_million_tokens_are_narrow() -> None:
    n = 1 << 20
    plan = longformer(256, (0, 1)).plan(range(n), range(n), 4096)
    found = grids_of(plan, CPU)
    assert found.rows is not None
    (grid,) = found.merged
    assert grid.seen.index.shape == (1, n // 128, 64)
    assert int(grid.seen.count.sum()) < 6.1 * n / 128
    assert grid.seen_by.index.shape[1] == n // 128


def test_one_kernel_joins_findings_of_all_lengths() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    join = torch.compile(backend.join, backend=counter, fullgraph=True, dynamic=True)
    for n in (300, 520, 129):
        x = torch.randn(2, 3, n, 16, dtype=torch.float64, requires_grad=True)
        lse, level = torch.randn(2, 2, 3, n, dtype=torch.float64)
        level[:, :, :5] = lse[:, :, :3] = -torch.inf
        both = torch.stack((x, 2 * x)), torch.stack((lse, level))
        joined, merged = join(x, lse, 2 * x, level), backend.merge(*both)
        for found, true in zip(joined, merged, strict=True):
            torch.testing.assert_close(found, true)
        grads = (torch.autograd.grad(out.square().sum(), x) for out, _ in (joined, merged))
        torch.testing.assert_close(*grads)
    assert counter.frame_count == 1


def test_a_compiled_module_around_it_leaves_its_kernel_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = compiled_frames(monkeypatch)
    around = CompileCounterWithBackend("eager")
    q, k, v = inputs(300, dtype=torch.float32)
    plan = longformer(12, (0, 20)).plan(range(300), range(300))

    @torch.compile(backend=around)
    def module(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q.sin(), k, v, plan, backend="flex").cos()

    with torch.no_grad():
        for _ in range(2):
            found = module(q, k, v)
        expected = attend(q.sin(), k, v, plan, backend="reference").cos()
    assert_same([found], [expected], 1e-5)
    assert counter.frame_count == 1 and around.frame_count == 2


def test_grids_of_many_layers_and_heads_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a BigBird from transformers: each head of each layer has drawn its own blocks."""
    made: list[object] = []
    make = grids_of.function
    monkeypatch.setattr(grids_of, "function", lambda *at: made.append(at) or make(*at))
    grids_of.cache_clear()
    plans = [Random(1, seed=seed).plan(range(130), range(130)) for seed in range(144)]
    for _ in range(2):
        for plan in plans:
            grids_of(plan, CPU)
    assert len(made) == len(grids_of) == 144


def test_grids_that_are_kept_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    grids_of.cache_clear()
    (first, *_, last) = [Window(3).plan(range(n), range(n)) for n in range(200, 210)]
    one = grids._size(grids_of(first, CPU))
    monkeypatch.setattr(grids_of, "room", 3 * one)
    for n in range(200, 210):
        grids_of(Window(3).plan(range(n), range(n)), CPU)
    kept = grids_of(last, CPU)
    assert len(grids_of) == 3 and grids_of(last, CPU) is kept
    (grid,) = kept.merged
    mask = grid.mask(None)
    lists = (mask.kv_indices, mask.full_kv_indices, mask.q_indices, mask.full_q_indices)
    held = sum(x.nbytes for x in lists if x is not None)
    assert held <= grid.size() - grid.row_FQ.nbytes - grid.col_FK.nbytes <= 2 * held
    monkeypatch.setattr(grids_of, "room", 1)
    grids_of(first, CPU)
    assert len(grids_of) == 1
