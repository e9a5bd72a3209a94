"""Plans as FlexAttention masks, run eagerly, which needs no compiler and no GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from core.attention import Causal, Dense, Window, attend
from tests.core.attention.helpers import PATTERNS, inputs


@pytest.mark.parametrize("name", list(PATTERNS))
def test_flex_with_the_mask_of_a_plan_equals_the_reference(name: str) -> None:
    plan = PATTERNS[name].plan(range(30, 120), range(11, 140))
    q, k, v = (x.detach().float() for x in inputs(90, 129))
    expected, lse = attend(q, k, v, plan, backend="reference", return_lse=True)
    found = flex_attention(q, k, v, block_mask=plan.to_block_mask(32))
    assert isinstance(found, torch.Tensor)
    some = lse > -torch.inf  # what flex makes of a row without keys is its own
    torch.testing.assert_close(found[some], expected[some], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [17, 128, 300])
@pytest.mark.parametrize("name", list(PATTERNS))
def test_lists_hold_every_block_with_a_pair_and_full_blocks_are_full(name: str, n: int) -> None:
    """A compiled flex skips what is not listed and masks nothing of full blocks."""
    block, pattern = 16, PATTERNS[name]
    mask = pattern.plan(range(n), range(n), 8).to_block_mask(block)
    at = torch.arange(n)
    allowed = pattern.allowed(at[:, None], at[None])
    pad = -n % block
    cells = -(-n // block)

    def per_block(fill: bool) -> torch.Tensor:
        grid = F.pad(allowed, (0, pad, 0, pad), value=fill).view(cells, block, cells, block)
        return grid.transpose(1, 2).flatten(2)

    def listed(count: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(cells, cells, dtype=torch.bool)
        for row in range(cells):
            found[row, index[0, 0, row, : int(count[0, 0, row])].long()] = True
        return found

    partial = listed(mask.kv_num_blocks, mask.kv_indices)
    full = listed(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert not bool((partial & full).any())
    assert bool(((partial | full) >= per_block(False).any(-1)).all())
    assert bool((full <= per_block(True).all(-1)).all())


def test_a_window_lists_few_blocks_and_most_of_them_full() -> None:
    n = 4096
    mask = (Window(512) & Causal()).plan(range(n), range(n)).to_block_mask(64)
    partial, full = int(mask.kv_num_blocks.sum()), int(mask.full_kv_num_blocks.sum())
    assert full > 3 * partial and partial + full <= (n // 64) * (512 // 64 + 2)
    dense = Dense().plan(range(n), range(n)).to_block_mask(64)
    assert int(dense.kv_num_blocks.sum()) == 0
