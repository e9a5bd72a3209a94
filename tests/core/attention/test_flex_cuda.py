"""The FlexAttention backend on a GPU: `python -m pytest tests/core/attention/test_flex_cuda.py`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.utils import counters

from core.attention import (
    Causal,
    Dense,
    Pattern,
    Strided,
    Window,
    attend,
    attend_sources,
    longformer,
)
from core.attention.attend import _choose
from core.attention.backends.source import Source
from core.attention.tiles import grids
from core.attention.tiles.grids import grids_of
from core.errors import ConfigError
from tests.core.attention.helpers import PATTERNS, gradients, inputs
from tests.core.attention.test_attend import random_bounds, run
from tests.core.attention.test_blocks import OWN
from tests.core.attention.test_flex_backend import LEARNED

STATIC = {**PATTERNS, **OWN}
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(tensors: list[Tensor] | tuple[Tensor, ...], dtype: torch.dtype) -> list[Tensor]:
    return [x.detach().to("cuda", dtype).requires_grad_() for x in tensors]


def assert_like_reference(
    pattern: Pattern, q_at: range, kv_at: range, bounds: Tensor | None, dtype: torch.dtype
) -> None:
    """Values and gradients, as far off float64 as torch's own attention is, or twice that."""
    plan = pattern.plan(q_at, kv_at)
    leaves = inputs(len(q_at), len(kv_at), batch=2)
    given = None if bounds is None else bounds.to("cuda")
    low = on_gpu(leaves, dtype)
    exact = run(*on_gpu(low, torch.float64), plan, given, "reference")
    ours = run(*low, plan, given, "flex")
    assert torch.equal(ours[1] == -torch.inf, exact[1] == -torch.inf)
    for found, true in zip(ours, exact, strict=True):
        assert bool(found.isfinite().logical_or(true == -torch.inf).all())
        tolerance = 2e-5 if dtype == torch.float32 else 3e-2
        scale = true.masked_fill(true == -torch.inf, 0.0).abs().max().clamp_min(1.0).item()
        torch.testing.assert_close(found.double(), true, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(STATIC))
def test_values_and_gradients_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    for n in (1, 129, 1000):
        assert_like_reference(STATIC[name], range(n), range(n), None, dtype)


@pytest.mark.parametrize("name", list(STATIC))
def test_bounds_and_ranges_equal_the_reference(name: str) -> None:
    for q_at, kv_at in ((range(300), range(300)), (range(37, 320), range(11, 340))):
        for batch in (1, 2):
            bounds = random_bounds(batch, len(q_at), len(kv_at))
            assert_like_reference(STATIC[name], q_at, kv_at, bounds, torch.float32)


@pytest.mark.parametrize("name", list(LEARNED))
def test_chosen_blocks_equal_the_reference(name: str) -> None:
    """In one dtype, so that both choose alike."""
    plan = LEARNED[name].plan(range(300), range(300))
    q, k, v = on_gpu(inputs(300), torch.float32)
    for bounds in (None, random_bounds(2, 300, 300).cuda()):
        ours, theirs = (run(q, k, v, plan, bounds, name) for name in ("flex", "reference"))
        for found, true in zip(ours, theirs, strict=True):
            torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-4)


def test_global_rows_in_stretches_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "WALK", 0)
    monkeypatch.setattr(grids, "_STRETCH", 1)
    grids_of.cache_clear()
    for bounds in (None, random_bounds(2, 500, 500)):
        at = range(500)
        assert_like_reference(PATTERNS["longformer"], at, at, bounds, torch.float32)
    grids_of.cache_clear()


def test_sources_and_grouped_queries_equal_the_reference() -> None:
    n = 150
    q = torch.cat(inputs(n)[:2], 1)  # 4 heads on 2
    (k, v), (k_other, v_other) = inputs(n)[1:], inputs(n, seed=1)[1:]
    at = torch.arange(n)
    middle = torch.stack([(at - 6).clamp_min(0)] * 2).int()
    low = torch.stack([torch.zeros_like(middle), middle], -1).cuda()
    high = torch.stack([middle, torch.stack([at + 1] * 2).int()], -1).cuda()
    plan = PATTERNS["everything-causal"].plan(range(n), range(n))
    results: list[list[Tensor]] = []
    for dtype, backend in ((torch.float32, "flex"), (torch.float64, "reference")):
        leaves = on_gpu([q, k, v, k_other, v_other], dtype)
        sources = [(*leaves[1:3], plan, low), (*leaves[3:], plan, high)]
        out = attend_sources(leaves[0], sources, backend=backend)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
        results.append([out, *torch.autograd.grad((out * weight).sum(), leaves)])
    for found, true in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), true, rtol=1e-4, atol=1e-4)


def test_float32_error_is_at_most_twice_that_of_torch_attention() -> None:
    n, pattern = 1000, longformer(64, (0, 5))
    leaves = [x.detach() for x in inputs(n, batch=1)]
    leaves = [F.pad(x, (0, 60), value=0.1) for x in leaves]
    plan = pattern.plan(range(n), range(n))
    exact = run(*on_gpu(leaves, torch.float64), plan, None, "reference")
    low = on_gpu(leaves, torch.float32)
    ours = run(*low, plan, None, "flex")
    at = torch.arange(n, device="cuda")
    mask = pattern.allowed(at[:, None], at[None])
    out = F.scaled_dot_product_attention(*low, attn_mask=mask)
    theirs = [out, ours[1], *gradients(out, low)]
    for a, b, true in zip(ours, theirs, exact, strict=True):
        assert (a - true).abs().max() <= 2 * (b - true).abs().max() + 1e-6


def test_one_kernel_serves_a_bucket_forward_and_backward() -> None:
    torch._dynamo.reset()
    counters.clear()
    for n in (1030, 1088, 1152):
        for pattern in (Window(10), Window(30) & Causal()):
            q, k, v = on_gpu(inputs(n), torch.bfloat16)
            attend(q, k, v, pattern.plan(range(n), range(n)), backend="flex").sum().backward()
    assert counters["stats"]["unique_graphs"] == 1
    for n in (2000, 3000, 5000, 9000):
        q, k, v = on_gpu(inputs(n), torch.bfloat16)
        attend(q, k, v, Window(10).plan(range(n), range(n)), backend="flex").sum().backward()
    assert counters["stats"]["unique_graphs"] <= 3


def test_auto_takes_flex_where_a_plan_is_sparse() -> None:
    n = 64
    q = torch.zeros(1, 2, n, 16, device="cuda")
    window, dense = (p.plan(range(n), range(n)) for p in (Window(5), Dense()))
    bounds = torch.zeros(1, n, 2, dtype=torch.int32, device="cuda")
    assert _choose(q, [Source(q, q, window, None)], False) == "flex"
    assert _choose(q, [Source(q, q, dense, bounds)], False) == "flex"
    assert _choose(q, [Source(q, q, dense, None)], False) == "sdpa"
    assert _choose(q.double(), [Source(q.double(), q.double(), window, None)], False) == "reference"
    with pytest.raises(ConfigError, match="float64 on CUDA"):
        attend(q.double(), q.double(), q.double(), window, backend="flex")


@pytest.mark.parametrize(
    "pattern",
    [Window(256), longformer(256, (0, 1)), Strided(4096) & Causal() | Window(128)],
    ids=["window", "longformer", "strided"],
)
def test_a_million_tokens_forward_and_backward_on_one_gpu(pattern: Pattern) -> None:
    n = 1_000_000
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (
        torch.randn(
            1, 8, n, 64, generator=generator, device="cuda", dtype=torch.bfloat16
        ).requires_grad_()
        for _ in range(3)
    )
    out = attend(q, k, v, pattern.plan(range(n), range(n)))
    out.sum().backward()
    assert bool(out.isfinite().all()) and q.grad is not None and bool(q.grad.isfinite().all())
