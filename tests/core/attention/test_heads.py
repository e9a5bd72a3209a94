"""Heads that differ: each group is attention by its own pattern, in any backend and combination."""

from __future__ import annotations

import json

import pytest
import torch

from core.attention import (
    Causal,
    Dense,
    Dilated,
    Global,
    HeadGroups,
    HeadPlan,
    Pattern,
    Random,
    TopK,
    Window,
    attend,
    attend_sources,
    bigbird,
    longformer,
    pattern_from_dict,
)
from core.errors import ConfigError
from core.model import EncoderConfig, SparseEncoder
from tests.core.attention.helpers import assert_same, gradients, inputs
from tests.core.attention.test_attend import random_bounds

N = 65
MIXED = HeadGroups(((Window(5) | Global((0,)), 1), (Dilated(4, 3), 2), (TopK(2, block=8), 1)))


def plans(pattern: HeadGroups, q: range, kv: range) -> HeadPlan:
    found = pattern.plan(q, kv)
    assert isinstance(found, HeadPlan)
    return found


def leaves(shared: int, n: int = N) -> list[torch.Tensor]:
    """q with 4 * shared heads, k and v with 4."""
    *q, k, v = (torch.cat(inputs(n, seed=seed)[:2], 1) for seed in range(shared + 2))
    return [x.detach().clone().requires_grad_() for x in (torch.cat(q, 1), k, v)]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shared", [1, 2])
def test_every_group_attends_by_its_own_pattern(shared: int, backend: str) -> None:
    q, k, v = leaves(shared)
    plan = plans(MIXED, range(N), range(N))
    for bounds in (None, random_bounds(2, N, N)):
        expected: list[torch.Tensor] = []
        for head in range(4):
            mine = slice(head * shared, (head + 1) * shared)
            own = (q[:, mine], k[:, head : head + 1], v[:, head : head + 1])
            expected.append(attend(*own, plan.of_head(head), bounds, backend="reference"))
        whole = torch.cat(expected, 1)
        out, lse = attend(q, k, v, plan, bounds, backend=backend, return_lse=True)
        assert lse.shape == q.shape[:3]
        assert_same([out, *gradients(out, [q, k, v])], [whole, *gradients(whole, [q, k, v])])


def test_sources_may_split_their_heads_at_different_places() -> None:
    q, k, v = leaves(1)
    _, k_other, v_other = (x.detach() * 2 for x in leaves(1))
    halves = HeadGroups(((Window(3), 2), (Causal(), 2)))
    given = [MIXED.plan(range(N), range(N)), halves.plan(range(N), range(N))]
    sources = [(k, v, given[0], None), (k_other, v_other, given[1], random_bounds(1, N, N))]
    found: list[list[torch.Tensor]] = []
    for backend in ("cpu", "reference"):
        out = attend_sources(q, sources, backend=backend)
        found.append([out, *gradients(out, [q, k, v])])
    assert_same(*found)
    head = [(k[:, 3:], v[:, 3:], plans(MIXED, range(N), range(N)).of_head(3), None)]
    head.append((k_other[:, 3:], v_other[:, 3:], Causal().plan(range(N), range(N)), sources[1][3]))
    assert_same([found[0][0][:, 3:]], [attend_sources(q[:, 3:], head)])


def test_a_chunk_of_heads_that_differ_equals_one_pass() -> None:
    q, k, v = leaves(1)
    causal = MIXED & Causal()
    whole = attend(q, k, v, causal.plan(range(N), range(N)))
    chunk = causal.plan(range(40, N), range(N))
    piece = attend(q[:, :, 40:], k, v, chunk, earlier=q[:, :, :40])
    assert_same([piece], [whole[:, :, 40:]])


def test_joining_and_cutting_reach_every_group() -> None:
    local, dilated = longformer(5, (0,), causal=True), Dilated(4, 3) & Causal()
    learned = TopK(2, block=8) & Causal()
    assert MIXED & Causal() == HeadGroups(((local, 1), (dilated, 2), (learned, 1)))
    assert Window(9) | MIXED == MIXED | Window(9) and Causal() & MIXED == MIXED & Causal()
    assert MIXED & Dense() == MIXED | MIXED == MIXED
    assert MIXED | Dense() == Dense()
    assert (MIXED | Window(2)) & Causal() == (MIXED & Causal()) | (Window(2) & Causal())
    pair = HeadGroups(((Window(2), 1), (Window(9), 3)))
    assert pair | HeadGroups(((Window(5), 3), (Window(2), 1))) == HeadGroups(
        ((Window(5), 1), (Window(9), 3))
    )
    assert pair & Window(2) == Window(2)


def test_equal_neighbours_are_one_group() -> None:
    groups = HeadGroups(((Window(2), 1), (Window(2), 2), (Causal(), 1)))
    assert groups == HeadGroups(((Window(2), 3), (Causal(), 1))) and groups.kv_heads == 4
    with pytest.raises(ConfigError, match="expected two groups that differ"):
        HeadGroups(((Window(2), 1), (Window(2), 2)))


def test_groups_are_saved_drawn_and_know_their_reach() -> None:
    assert pattern_from_dict(json.loads(json.dumps(MIXED.to_dict()))) == MIXED
    assert hash(pattern_from_dict(MIXED.to_dict())) == hash(MIXED)
    pair = HeadGroups(((Window(0), 2), (Causal(), 1)))
    assert pair.draw(2) == "heads 0-1:\n#.\n.#\n\nhead 2:\n#.\n##"
    assert pair.reach() is None and (pair & Window(7)).reach() == 7


def test_counts_are_sums_over_heads_of_keys() -> None:
    plan = plans(HeadGroups(((Window(5), 3), (Causal(), 1))), range(N), range(N))
    window, causal = (p.plan(range(N), range(N)) for p in (Window(5), Causal()))
    assert plan.pairs() == 3 * window.pairs() + causal.pairs()
    assert plan.block_area() == 3 * window.block_area() + causal.block_area()
    cost = plan.cost(16, heads=8, batch=2)
    apart = window.cost(16, 6, 2), causal.cost(16, 2, 2)
    assert cost.pairs == apart[0].pairs + apart[1].pairs
    assert cost.forward_bytes == apart[0].forward_bytes + apart[1].forward_bytes
    with pytest.raises(ConfigError, match="got 6 heads, expected a multiple of 4"):
        plan.cost(16, heads=6)


def test_bigbird_draws_for_each_head_of_keys() -> None:
    shared, apart = bigbird(3, 2, (0,), seed=1), bigbird(3, 2, (0,), seed=1, heads=3)
    assert isinstance(apart, HeadGroups) and apart.groups[0] == (shared, 1)
    draws = {pattern for pattern, _ in apart.groups}
    assert len(draws) == 3 == apart.kv_heads
    assert bigbird(3, 2, (0,), seed=1, heads=1) == shared
    tables = [Random(4, seed=0, head=head).drawn(torch.arange(256, 512)) for head in range(3)]
    same = [(a == b).float().mean() for a, b in ((tables[0], tables[1]), (tables[1], tables[2]))]
    assert max(same) < 0.05  # of 512 blocks each
    assert Random(1, seed=0) == pattern_from_dict({"kind": "random", "blocks": 1, "seed": 0})


def test_an_encoder_takes_heads_that_differ() -> None:
    pattern: Pattern = bigbird(4, 1, (0,), seed=0, heads=2)
    config = EncoderConfig(dim=16, layers=2, heads=4, kv_heads=2, pattern=pattern)
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    torch.manual_seed(0)
    encoder = SparseEncoder(config).double()
    x = torch.randn(2, 40, 16, dtype=torch.float64)
    padding = torch.arange(40) < torch.tensor([[40], [30]])
    out = encoder(x, padding)
    alone = encoder(x[1:, :30])
    assert_same([out[1:, :30]], [alone])
    with pytest.raises(ConfigError, match="groups of 2 heads of keys together, expected the 4"):
        EncoderConfig(heads=4, pattern=pattern)


def test_groups_that_do_not_fit_are_refused() -> None:
    q, k, v = leaves(2)
    plan = MIXED.plan(range(N), range(N))
    with pytest.raises(ConfigError, match="k: got 2 heads, expected 4 as in the groups"):
        attend(q, k[:, :2], v[:, :2], plan)
    other = (k[:, :2], v[:, :2], Window(3).plan(range(N), range(N)), None)
    with pytest.raises(ConfigError, match="where 4 heads in a row share keys"):
        attend_sources(q, [(k, v, plan, None), other])
    with pytest.raises(ConfigError, match="all heads must have one pattern"):
        MIXED.allowed(torch.arange(3), torch.arange(3))
    with pytest.raises(ConfigError, match="groups of 4 and of 3 heads"):
        MIXED | HeadGroups(((Window(1), 2), (Causal(), 1)))
    with pytest.raises(ConfigError, match="in a group, expected one pattern"):
        HeadGroups(((MIXED, 4), (Causal(), 1)))
