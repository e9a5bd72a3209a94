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


RANGES = [*((range(n), range(n)) for n in (17, 128, 300)), (range(8, 172), range(161))]


@pytest.mark.parametrize(("q", "kv"), RANGES)
@pytest.mark.parametrize("name", list(PATTERNS))
def test_lists_hold_every_block_with_a_pair_and_full_blocks_are_full(
    name: str, q: range, kv: range
) -> None:
    """A compiled flex skips what is not listed and masks nothing of full blocks."""
    block, pattern = 16, PATTERNS[name]
    mask = pattern.plan(q, kv, 8).to_block_mask(block)
    i, j = torch.arange(q.start, q.stop), torch.arange(kv.start, kv.stop)
    allowed = pattern.allowed(i[:, None], j[None])
    rows, cols = (-(-len(some) // block) for some in (q, kv))
    pad = (0, cols * block - len(kv), 0, rows * block - len(q))

    def per_block(fill: bool) -> torch.Tensor:
        grid = F.pad(allowed, pad, value=fill).view(rows, block, cols, block)
        return grid.transpose(1, 2).flatten(2)

    def listed(count: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(rows, cols, dtype=torch.bool)
        for row in range(rows):
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
