"""Costs that are counted before anything runs."""

from __future__ import annotations

import pytest
import torch

from core.attention import Dense, LogSparse, Window, bigbird, sparse_transformer
from core.attention.backends.tiled import looked_at
from core.errors import ConfigError
from core.fused.blocks import CHUNK, TILE
from tests.core.attention.helpers import PATTERNS

N = 4096


def test_a_dense_plan_costs_what_dense_attention_does() -> None:
    cost = Dense().plan(range(N), range(N)).cost(64, heads=8, batch=2)
    assert cost.pairs == 16 * N * N
    assert (cost.forward_flops, cost.backward_flops) == (16 * 4 * N * N * 64, 16 * 10 * N * N * 64)
    assert cost.forward_bytes == 16 * 4 * N * 64 * 4


@pytest.mark.parametrize("name", list(PATTERNS))
def test_arithmetic_is_that_of_the_blocks(name: str) -> None:
    plan = PATTERNS[name].plan(range(300), range(300), 16)
    cost = plan.cost(16)
    assert cost.pairs == plan.block_area() >= plan.pairs()
    assert cost.forward_flops == 4 * 16 * plan.block_area()
    assert plan.cost(16, dtype=torch.float64).forward_bytes == 2 * cost.forward_bytes
    assert plan.cost(16, dtype=torch.bfloat16) == cost


def test_cost_grows_as_the_papers_say() -> None:
    def grown(pattern, n: int = N) -> float:
        flops = [pattern.plan(range(m), range(m)).cost(64).forward_flops for m in (n, 4 * n)]
        return flops[1] / flops[0]

    assert 3.8 < grown(Window(64)) < 4.2 and 3.8 < grown(bigbird(64, 3, (0,))) < 4.3
    assert 4 < grown(LogSparse()) < 5  # n log n
    root = [
        sparse_transformer(step).plan(range(m), range(m)).cost(64).forward_flops
        for step, m in ((64, N), (128, 4 * N))
    ]
    assert 7 < root[1] / root[0] < 9  # n sqrt n


@pytest.mark.parametrize("name", ["window", "bigbird", "strided", "log", "everything"])
def test_predicted_seconds_are_positive_and_grow_with_the_work(name: str) -> None:
    plan = PATTERNS[name].plan(range(500), range(500))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        one, three = (plan.cost(16, 4, batch, dtype, device="cpu") for batch in (1, 3))
        for found in ("forward_seconds", "backward_seconds"):
            assert 0 < getattr(one, found) < getattr(three, found)
    assert plan.cost(16).forward_seconds is None


@pytest.mark.parametrize("name", ["window", "strided", "fixed", "bigbird", "many-globals"])
def test_tiles_look_at_every_pair_of_a_tiled_part(name: str) -> None:
    parts = PATTERNS[name].plan(range(300), range(300), 32).parts
    tall = [part for part in parts if part.tall]
    assert tall
    for part in tall:
        keys, stretches = looked_at(part)
        seen = int(part.mask().expand(-1, part.count, part.rows.width, -1).sum())
        assert seen <= keys * TILE and keys <= stretches * CHUNK
        tiles = part.count * -(-part.rows.width // TILE)
        assert keys <= tiles * part.cols.width


def test_seconds_of_a_device_without_a_sparse_backend_are_refused() -> None:
    with pytest.raises(ConfigError, match="device"):
        Window(4).plan(range(9), range(9)).cost(16, device="tpu")


@pytest.mark.parametrize("counts", [{"size": 0}, {"size": -4}, {"heads": 0}, {"batch": 0}])
def test_a_cost_of_nothing_is_refused(counts: dict[str, int]) -> None:
    (name,) = counts
    plan = Window(8).plan(range(111), range(111))
    with pytest.raises(ConfigError, match=f"cost: got {name} {counts[name]}"):
        plan.cost(**{"size": 16, **counts})
