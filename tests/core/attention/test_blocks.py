"""Patterns given by blocks: those of the library, and one that a user writes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from core.attention import (
    Blocks,
    Blockwise,
    Causal,
    Dense,
    Global,
    Pattern,
    Random,
    Window,
    attend,
    pattern_from_dict,
)
from core.errors import ConfigError
from tests.core.attention.helpers import assert_same, inputs
from tests.core.attention.test_attend import random_bounds, run
from tests.core.attention.test_patterns import rule
from tests.core.attention.test_plan import assert_partition


@dataclass(frozen=True)
class Mirror(Blockwise):
    """The blocks that lie as far from `middle` on its other side, and their neighbours before."""

    kind = "test-mirror"
    middle: int
    block: int = 8

    def drawn(self, rows: Tensor) -> Tensor:
        facing = 2 * self.middle - rows
        return torch.stack((facing, facing - 1), -1)


@dataclass(frozen=True)
class Hairpin(Mirror):
    """Of these blocks, the one token that faces the query."""

    kind = "test-hairpin"

    def rule(self, i: Tensor, j: Tensor) -> Tensor:
        return i + j == (2 * self.middle + 1) * self.block - 1


OWN: dict[str, Pattern] = {
    "mirror": Mirror(4),
    "hairpin": Hairpin(4),
    "hairpin-causal": Hairpin(5) & Causal(),
    "union": Hairpin(6) | Mirror(3, block=16) | Window(5) | Global((3,)) | Random(1, seed=0),
    "cut": (Mirror(6) | Hairpin(4)) & Window(30),
    "blocks": Blocks(8, ((0, 5), (), (2, 1, 90), (7, 7, -1))),
    "blocks-causal": (Blocks(8, tuple((r, r // 2, 0) for r in range(20))) | Window(3)) & Causal(),
}


@pytest.mark.parametrize("n", [1, 17, 63, 129])
@pytest.mark.parametrize("name", list(OWN))
def test_a_users_pattern_has_exact_plans_values_and_gradients(name: str, n: int) -> None:
    pattern = OWN[name]
    assert_partition(pattern, range(n), range(n), 8)
    q, k, v = inputs(n)
    plan = pattern.plan(range(n), range(n), 8)
    for bounds in (None, random_bounds(2, n, n)):
        assert_same(run(q, k, v, plan, bounds, "cpu"), run(q, k, v, plan, bounds, "reference"))


@pytest.mark.parametrize("name", list(OWN))
def test_a_users_pattern_means_the_same_in_a_chunk_and_in_flex(name: str) -> None:
    assert_partition(OWN[name], range(37, 120), range(11, 140), 8)
    plan = OWN[name].plan(range(37, 120), range(11, 140), 8)
    q, k, v = (x.detach().float() for x in inputs(83, 129))
    expected, lse = attend(q, k, v, plan, backend="reference", return_lse=True)
    found = flex_attention(q, k, v, block_mask=plan.to_block_mask(32))
    assert isinstance(found, Tensor)
    some = lse > -torch.inf
    torch.testing.assert_close(found[some], expected[some], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(OWN))
def test_a_users_pattern_is_saved_and_obeys_the_algebra(name: str) -> None:
    pattern, other = OWN[name], Window(9) | Mirror(7)
    saved = json.loads(json.dumps(pattern.to_dict()))
    assert pattern_from_dict(saved) == pattern and hash(pattern_from_dict(saved)) == hash(pattern)
    assert pattern | other == other | pattern and pattern | pattern == pattern
    assert pattern & Dense() == pattern
    assert (pattern | other) & Causal() == (pattern & Causal()) | (other & Causal())
    assert torch.equal(rule(pattern | other), rule(pattern) | rule(other))
    assert "#" in pattern.draw(80)


def test_rows_see_the_blocks_of_the_table_and_no_others() -> None:
    seen = rule(Blocks(2, ((1,), (), (0, 2))), 8).view(4, 2, 4, 2)
    assert torch.equal(seen.any(3).any(1), seen.all(3).all(1))
    pairs = [(row, block) for row, block in seen[:, 0, :, 0].nonzero().tolist()]
    assert pairs == [(0, 1), (2, 0), (2, 2)]


def test_equal_tables_are_equal_patterns() -> None:
    assert Blocks(8, ((3, 1, -1), (2, 2, 0))) == Blocks(8, ((1, 3), (0, 2)))


def test_work_on_drawn_blocks_is_the_blocks_drawn() -> None:
    plan = Mirror(64, block=16).plan(range(2048), range(2048))
    assert plan.pairs() == plan.block_area() <= 2048 * 32


def test_a_table_of_another_kind_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong(Blockwise):
        kind = "test-wrong"
        block: int = 8

        def drawn(self, rows: Tensor) -> Tensor:
            return rows.float()[..., None]

    with pytest.raises(ConfigError, match=r"Wrong.drawn: got torch.float32 \(3, 1\), expected"):
        Wrong().plan(range(20), range(20))
    with pytest.raises(ConfigError, match="key block -2"):
        Blocks(8, ((-2,),))


def test_a_few_rows_with_fewer_blocks_do_not_bring_masks_to_the_others() -> None:
    table = ((0,), *((row - 1, row, row + 1) for row in range(1, 15)), (15,))
    plan = Blocks(4, table).plan(range(64), range(64))
    assert [part.count for part in plan.parts] == [1, 14, 1]
    assert all(part.full for part in plan.parts)
    assert plan.block_area() == plan.pairs() == (14 * 3 + 2) * 16
