"""A stand-in for the kernel of FlexAttention that reads a BlockMask as the compiled one does.

Run eagerly flex ignores the lists of blocks; this one computes what is listed and no more, and
masks nothing of full blocks. It is plain tensor operations, so gradients are autograd's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxOutput, BlockMask


def listed(count: Tensor | None, index: Tensor | None, width: int) -> Tensor:
    """bool [B, H, rows, width]: the blocks that a list names, each at most once."""
    assert count is not None and index is not None
    held = torch.arange(index.shape[-1]) < count[..., None]
    found = torch.zeros(*count.shape, width + 1, dtype=torch.int64)
    found.scatter_add_(-1, index.long().where(held, width), held.long())
    assert int(found[..., :width].max()) <= 1
    return found[..., :width] > 0


def both_lists(mask: BlockMask) -> tuple[Tensor, Tensor]:
    """bool [B, H, rows, columns]: partial and full blocks; the lists by key block must agree."""
    rows, cols = (-(-n // size) for n, size in zip(mask.seq_lengths, mask.BLOCK_SIZE, strict=True))
    partial = listed(mask.kv_num_blocks, mask.kv_indices, cols)
    full = listed(mask.full_kv_num_blocks, mask.full_kv_indices, cols)
    assert torch.equal(partial.mT, listed(mask.q_num_blocks, mask.q_indices, rows))
    assert torch.equal(full.mT, listed(mask.full_q_num_blocks, mask.full_q_indices, rows))
    assert not bool((partial & full).any())
    return partial, full


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, block_mask: BlockMask, scale: float, **_: Any
) -> tuple[Tensor, AuxOutput]:
    assert block_mask.seq_lengths == (q.shape[2], k.shape[2])
    partial, full = (
        x.repeat_interleave(128, 2).repeat_interleave(128, 3)[torch.arange(len(q)) % len(x)]
        for x in both_lists(block_mask)
    )
    sizes = (*q.shape[:3], k.shape[2])
    at = [torch.arange(n, dtype=torch.int32) for n in sizes]
    ruled = block_mask.mask_mod(*(x.view(-1, *[1] * (3 - d)) for d, x in enumerate(at)))
    allowed = full | (partial & ruled)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = (q @ k.mT * scale).masked_fill(~allowed, -torch.inf)
    lse = scores.masked_fill(~allowed.any(-1, keepdim=True), -1e30).logsumexp(-1)
    lse = lse.masked_fill(~allowed.any(-1), -torch.inf)
    weights = (scores - lse.masked_fill(lse == -torch.inf, 0.0)[..., None]).exp()
    return weights @ v, AuxOutput(lse=lse)
