"""Every kind of pattern against the reference, in the sizes that the backend takes by itself.

The other files of this folder look at one kind or one part each, in blocks of a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import (
    Blocks,
    Causal,
    Dense,
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
    bigbird,
    longformer,
    sparse_transformer,
)
from core.attention.backends.cpu import BACKWARD_ROWS, FORWARD_ROWS, TILED_ROWS
from core.attention.backends.reference import _mask
from core.attention.backends.scratch import _scratch
from core.attention.backends.source import Source
from core.attention.heads import HeadPlan, split_heads
from core.attention.learned import choose
from core.attention.plan import Plan
from tests.core.attention.helpers import assert_same, gradients, inputs
from tests.core.attention.test_plan import times_seen

LENGTHS = [1, 17, 63, 111, 128, 129, 1000]
ODD = 13
SIZES = {17: 4, 63: 8, 111: 24, 129: 40}
"""Of heads that the kernels of 16 channels at a time are filled up for, by length."""
BOTH_WAYS: dict[str, Pattern] = {
    "window": Window(40),
    "dilated": Dilated(9, 3),
    "global": Global((0, 7, 100)),
    "random": Random(2, seed=3, block=16),
    "low_blocks": Random(4, seed=3, block=4),
    "blocks": Blocks(16, ((0, 3), (1,), (0, 2, 7), (), (4, 40), (0, 1, 5))),
    "strided": Strided(7),
    "fixed": Fixed(12, 3),
    "fixed_last": Fixed(12, 1),
    "columns": Global(tuple(range(3, 60, 3))) | Window(4),
    "scattered": Global(tuple(at * at for at in range(1, 20))) | Window(4),
    "logsparse": LogSparse(),
    "topk": TopK(3, block=16),
    "dense": Dense(),
    "longformer": longformer(20, (0, 64)),
    "bigbird": bigbird(16, 2, (0, 33), seed=1),
    "sparse_transformer": sparse_transformer(11),
    "heads": HeadGroups(((bigbird(8, 1, (0,)) | LogSparse(3), 1), (TopK(2, block=8), 1))),
}
KINDS = BOTH_WAYS | {f"{name}-causal": kind & Causal() for name, kind in BOTH_WAYS.items()}
AnyPlan = Plan | HeadPlan
each_kind = pytest.mark.parametrize("pattern", KINDS.values(), ids=KINDS.keys())


def run(
    q: Tensor, k: Tensor, v: Tensor, plan: AnyPlan, bounds: Tensor | None, backend: str
) -> list[Tensor]:
    """out, lse and the three gradients."""
    out, lse = attend(q, k, v, plan, bounds, backend=backend, return_lse=True)
    return [out, lse, *gradients(out, [q, k, v])]


def packed_and_padded(n: int) -> Tensor:
    """Three documents in one sequence; no first and no last tokens in the other."""
    at = torch.arange(n)
    edges = torch.tensor([0, n // 7, n // 3, n])
    document = torch.bucketize(at, edges[1:-1], right=True)
    packed = torch.stack((edges[document], edges[document + 1]), -1)
    return torch.stack((packed, torch.tensor([n // 5, n - n // 6]).expand(n, 2))).int()


def some_empty(n: int) -> Tensor:
    """Any interval a query of one sequence, and none for each fifth."""
    ends = torch.randint(0, n + 1, (1, n, 2), generator=torch.Generator().manual_seed(0))
    ends = ends.sort(-1).values
    ends[:, ::5] = n // 2
    return ends.int()


@pytest.mark.parametrize("n", LENGTHS)
@each_kind
def test_values_and_gradients_equal_the_reference(pattern: Pattern, n: int) -> None:
    for bounds in (None, packed_and_padded(n), some_empty(n)):
        q, k, v = inputs(n, batch=1 if bounds is None else 2)
        plans = [pattern.plan(range(n), range(n), block) for block in (None, ODD)]
        expected = run(q, k, v, plans[0], bounds, "reference")
        for plan in plans:
            assert_same(run(q, k, v, plan, bounds, "cpu"), expected)


@pytest.mark.parametrize("n", LENGTHS)
@each_kind
def test_tiled_values_and_gradients_are_the_references(pattern: Pattern, n: int) -> None:
    for bounds in (None, packed_and_padded(n), some_empty(n)):
        batch = 1 if bounds is None else 2
        given = inputs(n, batch=batch, dtype=torch.float32, size=SIZES.get(n, 16))
        q, k, v = (x.detach().double().requires_grad_() for x in given)
        plans = [pattern.plan(range(n), range(n), block) for block in (None, ODD)]
        expected = run(q, k, v, plans[0], bounds, "reference")
        for plan in plans:
            found = [x.double() for x in run(*given, plan, bounds, "cpu")]
            assert_same(found, expected, tolerance=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_kind
def test_a_batch_without_sequences_is_no_error(pattern: Pattern, dtype: torch.dtype) -> None:
    n = 129
    for bounds in (None, some_empty(n), some_empty(n)[:0]):
        given = list(inputs(n, batch=0, dtype=dtype, size=16))
        out, lse = attend(*given, pattern.plan(range(n), range(n)), bounds, return_lse=True)
        assert out.shape == given[0].shape and lse.shape == (0, 2, n)
        assert [d.shape for d in gradients(out, given)] == [x.shape for x in given]


def plans_of(plan: AnyPlan) -> list[Plan]:
    return list(plan.plans) if isinstance(plan, HeadPlan) else [plan]


@pytest.mark.parametrize("n", LENGTHS)
@each_kind
def test_parts_hold_each_pair_of_the_rule_once(pattern: Pattern, n: int) -> None:
    at = torch.arange(n)
    for plan in plans_of(pattern.plan(range(n), range(n))):
        if plan.learned:
            continue  # test_learned counts what the data choose
        allowed = plan.pattern.allowed(at[:, None], at[None])
        for some in map(plan.at, (FORWARD_ROWS, BACKWARD_ROWS, TILED_ROWS)):
            assert torch.equal(times_seen(some), allowed.long())
            assert some.pairs() == int(allowed.sum())


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 4), (torch.float32, 16)])
@each_kind
def test_chunks_equal_one_pass(pattern: Pattern, dtype: torch.dtype, size: int) -> None:
    n = 1000
    q, k, v = (x.detach() for x in inputs(n, batch=1, dtype=dtype, size=size))
    whole = attend(q, k, v, pattern.plan(range(n), range(n)))
    # whole blocks of learned patterns, which choose by them when they look both ways
    for start, stop in ((0, 48), (48, 64), (64, 512), (512, n)):
        plan = pattern.plan(range(start, stop), range(n))
        given = (q[:, :, start:stop], k, v, plan)
        found = attend(*given, earlier=q[:, :, :start])
        close = 1e-9 if dtype == torch.float64 else 1e-5
        assert_same([found], [whole[:, :, start:stop]], close)


def mask_of(plan: AnyPlan, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """bool [B, H, N, M]: the pairs of the plan in this call."""
    masks: list[Tensor] = []
    for heads, ((own_k, own_v, one, bounds),) in split_heads(q, [(k, v, plan, None)]):
        source = Source(own_k, own_v, one, bounds, choose(one, q[:, heads], own_k))
        masks.append(_mask(source, q.device).expand(*q[:, heads].shape[:3], -1))
    return torch.cat(masks, 1)


def errors(out: Tensor, leaves: list[Tensor], true: list[Tensor]) -> Tensor:
    """Of value and gradients, the root of the mean square: one outlier among 8,000 that is 100
    times the others doubles it, and it is the same for any draw."""
    found = [out.detach(), *gradients(out, leaves)]
    return torch.stack([(a - b).square().mean().sqrt() for a, b in zip(found, true, strict=True)])


@pytest.mark.parametrize(
    ("n", "size", "scores"), [(129, 4, 1), (512, 4, 1), (129, 64, 1), (512, 16, 1), (512, 16, 16)]
)
@each_kind
def test_float32_error_is_at_most_twice_that_of_torch(
    pattern: Pattern, n: int, size: int, scores: int
) -> None:
    """Also of scores so large that what a log-sum-exp is rounded by shows in every weight."""
    plan = pattern.plan(range(n), range(n))
    q, k, v = inputs(n, batch=8, size=size)
    given = [x.detach().float().requires_grad_() for x in (q * scores, k, v)]
    wide = [x.detach().double().requires_grad_() for x in given]
    true = attend(*wide, plan, backend="reference")
    true = [true.detach(), *gradients(true, wide)]
    ours = errors(attend(*given, plan, backend="cpu"), given, true)
    torch_out = F.scaled_dot_product_attention(*given, attn_mask=mask_of(plan, *given))
    assert bool((ours <= 2 * errors(torch_out, given, true)).all())


@pytest.mark.parametrize("shared", [1, 2])
@each_kind
def test_grouped_queries_equal_keys_copied_for_every_head(pattern: Pattern, shared: int) -> None:
    n = 129
    if not pattern.uniform and shared == 1:
        pytest.skip("its groups are of two heads of keys")
    q = torch.cat(inputs(n)[:2], 1).detach().requires_grad_()  # 4 heads
    k, v = (x.detach()[:, :shared].requires_grad_() for x in inputs(n, seed=1)[1:])
    plan = pattern.plan(range(n), range(n))
    copied = [x.repeat_interleave(4 // shared, 1) for x in (k, v)] if pattern.uniform else [k, v]
    for bounds in (None, packed_and_padded(n)):
        out = attend(q, *copied, plan, bounds, backend="reference")
        expected = [out, *gradients(out, [q, k, v])]
        for backend in ("cpu", "reference", "sdpa"):
            if backend != "sdpa" or (pattern == Dense() and bounds is None):
                out = attend(q, k, v, plan, bounds, backend=backend)
                assert_same([out, *gradients(out, [q, k, v])], expected)


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that nothing was written to yet is NaN: torch's new tensors, and the scratch."""
    for buffer in _scratch.buffers.values():
        buffer.fill_(torch.nan)
    torch.use_deterministic_algorithms(True)
    assert bool(torch.empty(3).isnan().all())
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("size", [4, 16])
@each_kind
def test_memory_that_nothing_was_written_to_is_never_read(pattern: Pattern, size: int) -> None:
    for n in (300, 63):  # what a longer sequence leaves behind is no better
        q, k, v = inputs(n, dtype=torch.float32, size=size)
        for bounds in (None, packed_and_padded(n), some_empty(n)):
            plan = pattern.plan(range(n), range(n))
            expected = run(q, k, v, plan, bounds, "cpu")
            with poisoned():
                found = run(q, k, v, plan, bounds, "cpu")
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
