"""`attend` against the dense-masked reference."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import (
    Causal,
    Dense,
    Global,
    LogSparse,
    Pattern,
    Plan,
    Window,
    attend,
    attend_sources,
)
from core.attention.attend import _log_choice
from core.attention.backends.cpu import FORWARD
from core.attention.backends.pieces import pieces_of
from core.errors import ConfigError
from tests.core.attention.helpers import PATTERNS, REGULAR, assert_same, gradients, inputs

LENGTHS = [1, 63, 64, 65, 200]


def run(
    q: Tensor, k: Tensor, v: Tensor, plan: Plan, bounds: Tensor | None, backend: str
) -> list[Tensor]:
    """out, lse and the three gradients."""
    out, lse = attend(q, k, v, plan, bounds, backend=backend, return_lse=True)
    return [out, lse, *gradients(out, [q, k, v])]


def random_bounds(batch: int, n: int, m: int, seed: int = 0) -> Tensor:
    """Any interval a query, a few of them empty."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, m + 1, (batch, n, 2), generator=generator).sort(-1).values
    ends[:, ::7] = 0
    return ends.int()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_values_and_all_gradients_equal_the_reference(pattern: Pattern, n: int) -> None:
    q, k, v = inputs(n)
    plan = pattern.plan(range(n), range(n), block=8)
    assert_same(run(q, k, v, plan, None, "cpu"), run(q, k, v, plan, None, "reference"))


@pytest.mark.parametrize("name", list(REGULAR))
def test_regular_patterns_equal_the_reference_in_blocks_that_the_backend_chooses(name: str) -> None:
    n = 1000
    q, k, v = inputs(n, batch=1)
    plan = PATTERNS[name].plan(range(n), range(n))
    assert_same(run(q, k, v, plan, None, "cpu"), run(q, k, v, plan, None, "reference"))


@pytest.mark.parametrize("n", [17, 129])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_bounds_with_empty_rows_equal_the_reference(pattern: Pattern, n: int) -> None:
    q, k, v = inputs(n)
    plan = pattern.plan(range(n), range(n), block=8)
    for bounds in (random_bounds(2, n, n), random_bounds(1, n, n)):
        assert_same(run(q, k, v, plan, bounds, "cpu"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("block", [1, 5, 64, 500])
def test_block_size_never_changes_the_result(block: int) -> None:
    n = 129
    q, k, v = inputs(n)
    pattern = PATTERNS["bigbird-causal"]
    plan = pattern.plan(range(n), range(n), block)
    assert_same(run(q, k, v, plan, None, "cpu"), run(q, k, v, plan, None, "reference"))


def test_padding_equals_the_sequence_without_it() -> None:
    q, k, v = inputs(40, batch=1)
    longer = [F.pad(x, (0, 0, 0, 25), value=3.0) for x in (q, k, v)]
    bounds = torch.tensor([0, 40], dtype=torch.int32).expand(1, 65, 2)
    pattern = PATTERNS["bigbird"]
    padded = attend(*longer, pattern.plan(range(65), range(65), 8), bounds)[:, :, :40]
    alone = attend(q, k, v, pattern.plan(range(40), range(40), 8))
    assert_same([padded, *gradients(padded, [q, k, v])], [alone, *gradients(alone, [q, k, v])])


def test_packed_documents_equal_each_document_alone() -> None:
    q, k, v = inputs(100, batch=1)
    ends = torch.tensor([[0, 30]] * 30 + [[30, 93]] * 63 + [[93, 100]] * 7, dtype=torch.int32)
    packed = attend(q, k, v, Window(9).plan(range(100), range(100), 8), ends[None])
    for low, high in ((0, 30), (30, 93), (93, 100)):
        document = [x[:, :, low:high] for x in (q, k, v)]
        plan = Window(9).plan(range(high - low), range(high - low), 8)
        assert_same([packed[:, :, low:high]], [attend(*document, plan)])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_rows_without_keys_are_zero_with_lse_minus_infinity(backend: str) -> None:
    q, k, v = inputs(70)
    bounds = torch.zeros(2, 70, 2, dtype=torch.int32)
    out, lse, *grads = run(q, k, v, Window(9).plan(range(70), range(70), 8), bounds, backend)
    assert bool((out == 0).all()) and bool((lse == -torch.inf).all())
    assert all(bool((grad == 0).all()) for grad in grads)


@pytest.mark.parametrize("name", list(PATTERNS))
def test_chunks_of_a_stream_equal_one_pass(name: str) -> None:
    pattern, n = PATTERNS[name], 129
    q, k, v = inputs(n)
    whole = attend(q, k, v, pattern.plan(range(n), range(n), 8))
    for start, stop, first, last in ((0, 50, 0, n), (50, 53, 0, n), (53, n, 0, n), (60, 90, 20, n)):
        if first and (pattern.reach() is None or pattern.reach() > 40):
            continue
        plan = pattern.plan(range(start, stop), range(first, last), 8)
        piece = attend(q[:, :, start:stop], k[:, :, first:last], v[:, :, first:last], plan)
        assert_same([piece], [whole[:, :, start:stop]])


@pytest.mark.parametrize("name", list(PATTERNS))
def test_range_plans_equal_the_reference(name: str) -> None:
    plan = PATTERNS[name].plan(range(37, 120), range(11, 140), 8)
    q, k, v = inputs(83, 129)
    for bounds in (None, random_bounds(2, 83, 129)):
        assert_same(run(q, k, v, plan, bounds, "cpu"), run(q, k, v, plan, bounds, "reference"))


def test_queries_far_from_all_keys_have_none() -> None:
    q, k, v = inputs(20, 30)
    out, lse = attend(q, k, v, Window(5).plan(range(500, 520), range(30), 8), return_lse=True)
    assert bool((out == 0).all()) and bool((lse == -torch.inf).all())


@pytest.mark.parametrize("name", ["window-causal", "bigbird", "dense", "mixed-globals"])
def test_sources_equal_one_softmax_over_all_keys(name: str) -> None:
    n = 111
    q, k, v = inputs(n)
    _, k_other, v_other = inputs(n, seed=1)
    plan = PATTERNS[name].plan(range(n), range(n), 8)
    at = torch.arange(n)
    middle = torch.stack([(at - 6).clamp_min(0)] * 2).int()
    low = torch.stack([torch.zeros(2, n, dtype=torch.int32), middle], -1)
    high = torch.stack([middle, torch.stack([at + 1] * 2).int()], -1)
    sources = [(k, v, plan, low), (k_other, v_other, plan, high)]
    leaves = [q, k, v, k_other, v_other]
    results: list[list[Tensor]] = []
    for backend in ("cpu", "reference"):
        out, lse = attend_sources(q, sources, backend=backend, return_lse=True)
        results.append([out, lse, *gradients(out, leaves)])
    assert_same(*results)


def test_bfloat16_is_rounded_once() -> None:
    n = 129
    q, k, v = inputs(n, dtype=torch.bfloat16)
    plan = PATTERNS["bigbird"].plan(range(n), range(n), 8)
    got = run(q, k, v, plan, None, "cpu")
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = run(*wide, plan, None, "reference")
    assert got[0].dtype == torch.bfloat16 and got[1].dtype == torch.float32
    for ours, true in zip(got, expected, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=2e-2, atol=2e-2)


def test_autocast_changes_neither_values_nor_gradients() -> None:
    """Of columns that are plain products, of diagonals, and of what the kernels work out."""
    pattern = Global(tuple(at * at for at in range(10))) | Window(4) | LogSparse()
    q, k, v = inputs(150, dtype=torch.float32)
    plan = pattern.plan(range(150), range(150))
    expected = run(q, k, v, plan, None, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        found = run(q, k, v, plan, None, "cpu")
    assert all(map(torch.equal, found, expected))


def test_every_leaf_layout_gives_the_same_result() -> None:
    q, k, v = inputs(65)
    plan = PATTERNS["bigbird"].plan(range(65), range(65), 8)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert_same([attend(*strided, plan)], [attend(q, k, v, plan)], tolerance=0)


def test_explicit_backends_refuse_what_they_cannot_do() -> None:
    q, k, v = inputs(10)
    window, full = (p.plan(range(10), range(10)) for p in (Window(2), Dense()))
    with pytest.raises(ConfigError, match="expected one Dense"):
        attend(q, k, v, window, backend="sdpa")
    with pytest.raises(ConfigError, match="no log-sum-exp"):
        attend(q, k, v, full, backend="sdpa", return_lse=True)
    with pytest.raises(ConfigError, match="expected one of"):
        attend(q, k, v, full, backend="flash")
    meta = [x.detach().to("meta") for x in (q, k, v)]
    with pytest.raises(ConfigError, match="expected CPU"):
        attend(*meta, window, backend="cpu")
    assert_same([attend(q, k, v, full, backend="sdpa")], [attend(q, k, v, full)])


def test_the_choice_of_a_backend_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    q, k, v = inputs(10)
    _log_choice.cache_clear()
    with caplog.at_level("INFO"):
        for _ in range(2):
            attend(q, k, v, Window(2).plan(range(10), range(10)))
    assert caplog.messages == ["attention on cpu uses backend 'cpu'"]


def test_blocks_that_bounds_empty_are_not_computed() -> None:
    n = 4096
    plan = (Window(64) & Causal()).plan(range(n), range(n))
    at = torch.arange(n)
    low, known = (at - 64).clamp_min(0), (at - 8).clamp_min(0)
    keys = torch.zeros(2, n, 4)

    def area(*interval: Tensor) -> int:
        bounds = torch.stack(interval, -1).int()[None]
        return sum(piece.part.area() for piece in pieces_of(plan, bounds, 2, keys, FORWARD))

    assert area(low, low) == 0
    assert area(torch.where(at < 2000, low, n), at + 1) < 0.55 * plan.block_area()
    # labels known of all but the last 8 events: together hardly more than one pass
    assert area(low, known) + area(known, at + 1) < 1.6 * plan.block_area()


def test_rules_take_any_integer_positions() -> None:
    at = torch.arange(40, dtype=torch.int32)
    for pattern in PATTERNS.values():
        narrow = pattern.allowed(at[:, None], at[None])
        assert torch.equal(narrow, pattern.allowed(at.long()[:, None], at.long()[None]))


def test_no_quadratic_fallback_without_a_sparse_backend() -> None:
    n = 5000
    q = torch.empty(1, 1, n, 4, device="meta")
    with pytest.raises(ConfigError, match="no sparse backend for meta"):
        attend(q, q, q, Window(2).plan(range(n), range(n)))


def test_misfits_say_what_was_expected() -> None:
    q, k, v = inputs(10)
    plan = Causal().plan(range(10), range(10))
    with pytest.raises(ConfigError, match="got 9 queries, expected 10"):
        attend(q[:, :, :9], k, v, plan)
    with pytest.raises(ConfigError, match="v: got shape"):
        attend(q, k[:, :1], v, plan)
    with pytest.raises(ConfigError, match="got 3 heads, expected a divisor of q's 2"):
        attend(q, *(torch.cat((x, x[:, :1]), 1) for x in (k, v)), plan)
    with pytest.raises(ConfigError, match=r"v: got torch\.float32"):
        attend(q, k, v.float(), plan)
    with pytest.raises(ConfigError, match="bounds: got"):
        attend(q, k, v, plan, torch.zeros(3, 10, 2, dtype=torch.int32))
    with pytest.raises(ConfigError, match="no sources"):
        attend_sources(q, [])
    with pytest.raises(ConfigError, match="size of at least 1"):
        attend(q[..., :0], k[..., :0], v[..., :0], plan)
    with pytest.raises(ConfigError, match=r"plan: got Causal\(\), expected what its pattern.plan"):
        attend(q, k, v, cast(Plan, Causal()))


@pytest.mark.parametrize("backend", ["auto", "reference", "cpu"])
def test_numbers_that_attention_is_not_for_are_refused(backend: str) -> None:
    q, k, v = inputs(10)
    plan = Causal().plan(range(10), range(10))
    for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(ConfigError, match=rf"q: got {dtype}, expected one of torch\.float16"):
            attend(*(x.detach().to(dtype) for x in (q, k, v)), plan, backend=backend)
    for scale in (math.nan, math.inf, torch.tensor(0.5, requires_grad=True)):
        with pytest.raises(ConfigError, match="expected a finite number"):
            attend(q, k, v, plan, scale=cast(float, scale), backend=backend)
    bounds = torch.zeros(1, 10, 2, dtype=torch.int32)
    for wrong in (bounds.bool(), bounds.to(torch.complex64), bounds.to("meta")):
        with pytest.raises(ConfigError, match=r"bounds: got .* expected int32 .* on cpu"):
            attend(q, k, v, plan, wrong, backend=backend)
