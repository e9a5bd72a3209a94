"""Blocks that the data choose, against a twin in plain loops."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import (
    Causal,
    Dense,
    Global,
    Pattern,
    Random,
    Strided,
    TopK,
    Window,
    attend,
    attend_sources,
    chosen_blocks,
    longformer,
    pattern_from_dict,
    select_blocks,
    selection,
)
from core.errors import ConfigError
from tests.core.attention.helpers import assert_same, gradients, inputs, peaks
from tests.core.attention.test_attend import random_bounds, run

MIXED: dict[str, Pattern] = {
    "window": TopK(3, block=8) | Window(5),
    "longformer": longformer(4, (0, 30)) | TopK(4, block=8),
    "longformer-causal": (longformer(4, (0, 30)) | TopK(4, block=8)) & Causal(),
    "two": (TopK(4, block=8) | TopK(2, block=16) | Random(1, seed=0, block=8)) & Causal(),
    "cut": (TopK(4, block=8) & Window(30)) | Strided(7),
    "limited-global": (Global((3,)) & Window(10)) | TopK(3, block=8),
    "both-ways": TopK(3, block=8) | (TopK(3, block=8) & Causal()),
}


def twin(
    q: Tensor, k: Tensor, v: Tensor, blocks: int, size: int, causal: bool, bounds: Tensor | None
) -> Tensor:
    """Attention of every query by itself, to what the choice of its block row lets it see."""
    batch, heads, n, width = q.shape
    rows: list[Tensor] = []
    for b in range(batch):
        seen = [range(n)] * n if bounds is None else [range(*x) for x in bounds[b % len(bounds)]]
        for h in range(heads):
            for start in range(0, n, size):
                row = range(start, min(start + size, n))
                chosen = twin_choice(q[b, h], k[b, h], row, seen, blocks, size, causal)
                for i in row:
                    keys = [j for j in seen[i] if j // size in chosen and not (causal and j > i)]
                    weights = (k[b, h, keys] @ q[b, h, i] * width**-0.5).softmax(0)
                    rows.append(weights @ v[b, h, keys])
    return torch.stack(rows).view(q.shape)


def twin_choice(
    q: Tensor, k: Tensor, row: range, seen: list[range], blocks: int, size: int, causal: bool
) -> set[int]:
    own = row.start // size
    visible = [x for x in (seen[i] for i in row) if len(x)]
    if not visible:
        return {own}
    reach = range(min(x.start for x in visible), max(x.stop for x in visible))
    first = (own - causal) * size
    asking = [i for i in range(max(0, first), min(first + size, len(q))) if i in reach]
    scores = []
    for block in range(own if causal else -(-len(k) // size)):
        pooled = [j for j in range(block * size, min(block * size + size, len(k))) if j in reach]
        if block != own and pooled and asking:
            scores.append((float(q[asking].mean(0) @ k[pooled].mean(0)), block))
    return {own, *(block for _, block in sorted(scores, reverse=True)[: blocks - 1])}


def padded(n: int) -> Tensor:
    """Two sequences, one without its first and one without its last tokens."""
    ends = torch.tensor([[n // 5, n], [0, n - n // 3]], dtype=torch.int32)
    return ends[:, None].expand(2, n, 2)


def packed(n: int) -> Tensor:
    edges = [0, n // 7, n // 3, min(n // 3 + 2, n), n]
    at = torch.arange(n)
    ends = torch.tensor([[a, b] for a, b in pairwise(edges)])
    document = (at[:, None] >= torch.tensor(edges[1:-1])).sum(1)
    return ends[document].int()[None]


@pytest.mark.parametrize("n", [1, 17, 63, 111, 128, 129])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["plain", "padded", "packed", "random"])
def test_values_and_gradients_are_the_twins(kind: str, causal: bool, n: int) -> None:
    pattern = TopK(3, block=8) & Causal() if causal else TopK(3, block=8)
    plan = pattern.plan(range(n), range(n))
    bounds = {
        "plain": None,
        "padded": padded(n),
        "packed": packed(n),
        "random": random_bounds(2, n, n),
    }[kind]
    q, k, v = inputs(n)
    expected = twin(q, k, v, 3, 8, causal, bounds)
    expected = [expected, *gradients(expected, [q, k, v])]
    for backend in ("cpu", "reference"):
        out = attend(q, k, v, plan, bounds, backend=backend)
        assert_same([out, *gradients(out, [q, k, v])], expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [16, 64])
def test_a_longer_sequence_equals_the_twin(causal: bool, block: int) -> None:
    n = 1000
    pattern = TopK(4, block) & Causal() if causal else TopK(4, block)
    q, k, v = inputs(n, batch=1)
    expected = twin(q, k, v, 4, block, causal, None)
    out = attend(q, k, v, pattern.plan(range(n), range(n)))
    assert_same([out, *gradients(out, [q, k, v])], [expected, *gradients(expected, [q, k, v])])


@pytest.mark.parametrize("n", [1, 17, 64, 129])
@pytest.mark.parametrize("name", list(MIXED))
def test_unions_with_other_patterns_equal_the_reference(name: str, n: int) -> None:
    plan = MIXED[name].plan(range(n), range(n), 8)
    q, k, v = inputs(n)
    for bounds in (None, padded(n), random_bounds(1, n, n)):
        assert_same(run(q, k, v, plan, bounds, "cpu"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", ["window", "longformer-causal"])
def test_query_heads_that_share_keys_choose_for_themselves(name: str) -> None:
    n = 111
    q = torch.cat([x for x in inputs(n)[:2]], 1).detach().requires_grad_()  # 4 heads
    k, v = (x.detach().clone().requires_grad_() for x in inputs(n, seed=1)[1:])
    plan = MIXED[name].plan(range(n), range(n), 8)
    for bounds in (None, padded(n)):
        copied = attend(q, *(x.repeat_interleave(2, 1) for x in (k, v)), plan, bounds)
        out = attend(q, k, v, plan, bounds)
        assert_same([out, *gradients(out, [q, k, v])], [copied, *gradients(copied, [q, k, v])])
    (table,) = chosen_blocks(plan, q, k)
    assert not torch.equal(table[:, 0], table[:, 1])


@pytest.mark.parametrize("changed", [1, 40, 64, 99])
def test_later_tokens_never_change_an_earlier_result(changed: int) -> None:
    n = 129
    q, k, v = inputs(n)
    for pattern in (TopK(3, block=8) & Causal(), MIXED["longformer-causal"], MIXED["two"]):
        plan = pattern.plan(range(n), range(n))
        other = [
            torch.cat((x[:, :, :changed], 9 * y[:, :, changed:]), 2)
            for x, y in zip((q, k, v), inputs(n, seed=5), strict=True)
        ]
        before, after = (attend(*x, plan)[:, :, :changed] for x in ((q, k, v), other))
        assert_same([after], [before], tolerance=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("first", [0, 16])
def test_padding_equals_the_sequence_without_it(causal: bool, first: int) -> None:
    n = 43
    pattern = MIXED["two"] if causal else TopK(3, block=8)
    q, k, v = inputs(n, batch=1)
    longer = [F.pad(x, (0, 0, first, 25), value=30.0) for x in (q, k, v)]
    total = n + first + 25
    bounds = torch.tensor([first, first + n], dtype=torch.int32).expand(1, total, 2)
    if first:  # a pattern of positions, blocks are counted from position 0
        pattern = TopK(3, block=8) & Causal() if causal else pattern
    inside = attend(*longer, pattern.plan(range(total), range(total)), bounds)
    inside = inside[:, :, first : first + n]
    alone = attend(q, k, v, pattern.plan(range(n), range(n)))
    assert_same([inside, *gradients(inside, [q, k, v])], [alone, *gradients(alone, [q, k, v])])


@pytest.mark.parametrize("causal", [False, True])
def test_documents_that_start_with_a_block_equal_each_alone(causal: bool) -> None:
    pattern = TopK(3, block=8) & Causal() if causal else TopK(3, block=8)
    q, k, v = inputs(100, batch=1)
    documents = ((0, 24), (24, 88), (88, 100))
    ends = torch.cat([torch.tensor([d]).expand(d[1] - d[0], 2) for d in documents]).int()
    found = attend(q, k, v, pattern.plan(range(100), range(100)), ends[None])
    for low, high in documents:
        alone = [x[:, :, low:high] for x in (q, k, v)]
        plan = pattern.plan(range(high - low), range(high - low))
        assert_same([found[:, :, low:high]], [attend(*alone, plan)])


def test_causal_documents_are_independent_wherever_they_start() -> None:
    pattern, bounds = TopK(3, block=8) & Causal(), packed(129)
    plan = pattern.plan(range(129), range(129))
    first, other = inputs(129, batch=1), inputs(129, batch=1, seed=3)
    for low, high in bounds[0].unique(dim=0).tolist():
        mixed = [y.detach().clone() for y in other]
        for x, y in zip(mixed, first, strict=True):
            x[:, :, low:high] = y[:, :, low:high]
        here, there = (attend(*x, plan, bounds)[:, :, low:high] for x in (first, mixed))
        assert_same([there], [here], tolerance=1e-12)


@pytest.mark.parametrize("name", ["topk", "longformer-causal", "two"])
@pytest.mark.parametrize("step", [1, 7, 16])
def test_chunks_with_the_queries_before_them_equal_one_pass(name: str, step: int) -> None:
    n, pattern = 61, {**MIXED, "topk": TopK(3, block=8) & Causal()}[name]
    q, k, v = inputs(n)
    whole = attend(q, k, v, pattern.plan(range(n), range(n)))
    needed = 31 if name == "two" else 15
    for start in range(0, n, step):
        stop = min(start + step, n)
        plan = pattern.plan(range(start, stop), range(stop))
        earlier = q[:, :, max(0, start - needed) : start]
        chunk = (q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], plan)
        for backend in ("cpu", "reference"):
            piece = attend(*chunk, backend=backend, earlier=earlier)
            assert_same([piece], [whole[:, :, start:stop]], tolerance=1e-12)


def test_both_ways_a_chunk_of_whole_blocks_equals_one_pass() -> None:
    n, pattern = 61, MIXED["longformer"]
    q, k, v = inputs(n)
    whole = attend(q, k, v, pattern.plan(range(n), range(n)))
    for start, stop in ((0, 24), (24, 40), (40, 61)):
        piece = attend(q[:, :, start:stop], k, v, pattern.plan(range(start, stop), range(n)))
        assert_same([piece], [whole[:, :, start:stop]])


def test_keys_that_no_row_chose_leave_rows_empty() -> None:
    q, k, v = inputs(16, 40)
    plan = TopK(1, block=8).plan(range(96, 112), range(40))  # its own block is no key
    out, lse, *grads = run(q, k, v, plan, None, "cpu")
    assert bool((lse == -torch.inf).all())
    assert all(bool((x == 0).all()) for x in (out, *grads))


def test_chunks_that_cannot_choose_alike_are_refused() -> None:
    q, k, v = inputs(20, 40)
    causal = TopK(3, block=8) & Causal()
    with pytest.raises(ConfigError, match=r"expected earlier \[2, 2, 12 or more, 4\]"):
        attend(q, k, v, causal.plan(range(20, 40), range(40)))
    with pytest.raises(ConfigError, match=r"earlier \(2, 2, 5, 4\), expected"):
        attend(q, k, v, causal.plan(range(20, 40), range(40)), earlier=q[:, :, :5])
    with pytest.raises(ConfigError, match="expected queries up to a multiple of block 8"):
        attend(q, k, v, TopK(3, block=8).plan(range(20), range(40)))


def test_choices_of_what_does_not_fit_are_refused() -> None:
    q, k, _ = inputs(20)
    plan = TopK(2, block=8).plan(range(20), range(20))
    with pytest.raises(ConfigError, match=r"k: got shape \(2, 2, 5, 4\), expected \[2, a divisor"):
        chosen_blocks(plan, q, k[:, :, :5])
    with pytest.raises(ConfigError, match=r"q: got shape \(2, 2, 19, 4\), expected .* 20, size"):
        chosen_blocks(plan, q[:, :, 1:], k)
    with pytest.raises(ConfigError, match=r"bounds: got .* expected int32 \[2 or 1, 20, 2\]"):
        chosen_blocks(plan, q, k, torch.zeros(1, 19, 2, dtype=torch.int32))
    with pytest.raises(ConfigError, match="got 0 blocks of 8 tokens"):
        select_blocks(q, k, range(20), range(20), blocks=0, block=8, causal=True)


def test_sources_choose_each_among_their_own_keys() -> None:
    n = 60
    q, k, v = inputs(n)
    _, k_other, v_other = inputs(n, seed=1)
    plans = [TopK(3, block=8).plan(range(n), range(n)), MIXED["two"].plan(range(n), range(n))]
    sources = [(k, v, plans[0], padded(n)), (k_other, v_other, plans[1], None)]
    results: list[list[Tensor]] = []
    for backend in ("cpu", "reference"):
        out, lse = attend_sources(q, sources, backend=backend, return_lse=True)
        results.append([out, lse, *gradients(out, [q, k, v, k_other, v_other])])
    assert_same(*results)


def test_choosing_in_stretches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, _ = inputs(111)
    for pattern in (TopK(4, block=8), TopK(4, block=8) & Causal()):
        plan = pattern.plan(range(111), range(111))
        whole = [chosen_blocks(plan, q, k, bounds) for bounds in (None, padded(111))]
        monkeypatch.setattr(selection, "_SCORES", 1)
        parts = [chosen_blocks(plan, q, k, bounds) for bounds in (None, padded(111))]
        monkeypatch.undo()
        assert all(torch.equal(a[0], b[0]) for a, b in zip(whole, parts, strict=True))


def test_the_table_names_the_own_block_first_and_each_block_once() -> None:
    q, k, _ = inputs(200)
    (table,) = chosen_blocks((TopK(4, block=16) & Causal()).plan(range(200), range(200)), q, k)
    assert table.shape == (2, 2, 13, 4) and table.dtype == torch.int64
    assert torch.equal(table[0, 0, :, 0], torch.arange(13))
    assert torch.equal((table >= 0).sum(-1)[0, 0], torch.arange(1, 14).clamp_max(4))
    ordered = table.sort(-1).values
    assert bool(((ordered[..., 1:] > ordered[..., :-1]) | (ordered[..., 1:] < 0)).all())


@pytest.mark.parametrize("pattern", [TopK(3, block=8), TopK(3, block=8) & Causal()])
def test_pairs_are_counted_before_the_data_are_known(pattern: Pattern) -> None:
    for n in (1, 8, 64, 128):
        plan = pattern.plan(range(n), range(n))
        (table,) = chosen_blocks(plan, *(inputs(n)[:2]))
        j = torch.arange(n)
        seen = (table[0, 0][j // 8][:, None] == (j // 8)[:, None]).any(-1)
        seen &= j <= j[:, None] if pattern != TopK(3, block=8) else seen
        assert plan.pairs() == int(seen.sum()) <= plan.block_area()
    assert plan.cost(4).pairs == plan.block_area()


def test_what_the_data_decide_is_drawn_as_such_and_has_no_rule() -> None:
    assert (TopK(2, block=2) & Causal()).draw(4) == "#...\n##..\n??#.\n??##"
    assert (TopK(2, block=2) | Window(1)).draw(4) == "##??\n###?\n?###\n??##"
    with pytest.raises(ConfigError, match="queries and keys choose its blocks"):
        (TopK(2) | Window(3)).allowed(torch.arange(3), torch.arange(3))
    with pytest.raises(ConfigError, match="known in a call only"):
        TopK(2).plan(range(300), range(300)).to_block_mask()
    with pytest.raises(ConfigError, match="TopK: got blocks 0"):
        TopK(0)


@pytest.mark.parametrize("name", list(MIXED))
def test_learned_patterns_are_saved_and_obey_the_algebra(name: str) -> None:
    pattern, other = MIXED[name], TopK(2, block=4) | Window(9)
    assert pattern_from_dict(json.loads(json.dumps(pattern.to_dict()))) == pattern
    assert pattern | other == other | pattern and pattern | pattern == pattern
    assert pattern & Dense() == pattern and (pattern & Causal()) & Causal() == pattern & Causal()
    assert (pattern | other) & Causal() == (pattern & Causal()) | (other & Causal())


RUN = """
from core.attention import Causal, TopK, Window, attend

def run(n):
    q, k, v = (torch.randn(1, 2, n, 16, requires_grad=True) for _ in range(3))
    pattern = (TopK(4) | Window(64)) & Causal()
    plan = pattern.plan(range(n), range(n))
    attend(q, k, v, plan, torch.tensor([0, n - 5]).expand(1, n, 2)).sum().backward()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_peak_memory_at_most_doubles_when_the_length_doubles() -> None:
    small, middle, large = peaks(RUN, (16384, 32768, 65536))
    assert small > 0 and middle <= 2.2 * small and large <= 2.2 * middle
