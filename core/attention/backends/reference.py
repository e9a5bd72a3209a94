"""The oracle: a dense mask, plain tensor operations, any device. Quadratic in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.algebra import any_allowed
from core.attention.backends.source import Source, compute_dtype, for_each_head


def reference(q: Tensor, sources: Sequence[Source], scale: float) -> tuple[Tensor, Tensor]:
    """One softmax over all sources. Returns out_BHND in q's dtype and lse_BHN without gradient."""
    dtype = compute_dtype(q.dtype)
    heads = q.shape[1]
    k = torch.cat([for_each_head(source.k, heads) for source in sources], dim=2).to(dtype)
    v = torch.cat([for_each_head(source.v, heads) for source in sources], dim=2).to(dtype)
    masks = [_mask(source, q.device).expand(q.shape[0], heads, -1, -1) for source in sources]
    mask = torch.cat(masks, dim=-1)
    scores = (q.to(dtype) @ k.transpose(-1, -2)) * scale
    # a finite floor, so that a row without keys has zeros and not NaN for gradients
    weights = scores.masked_fill(~mask, torch.finfo(dtype).min).softmax(-1) * mask
    with torch.no_grad():
        lse = scores.masked_fill(~mask, -torch.inf).logsumexp(-1)
    return (weights @ v).to(q.dtype), lse.detach()


def _mask(source: Source, device: torch.device) -> Tensor:
    """bool [B or 1, H or 1, N, M]."""
    plan = source.plan
    i = torch.arange(plan.q.start, plan.q.stop, device=device)
    j = torch.arange(plan.kv.start, plan.kv.stop, device=device)
    static = (term for term in plan.pattern.terms() if term not in plan.learned)
    mask = any_allowed(static, i[:, None], j[None, :])[None, None]
    for choice in source.choices:
        held = choice.holds(i[:, None], j[None, None])
        mask = mask | held.unflatten(0, choice.table.shape[:2])
    if source.bounds is not None:
        low, high = source.bounds[:, None, :, :1], source.bounds[:, None, :, 1:]
        at = torch.arange(len(plan.kv), device=device)
        mask = mask & (at >= low) & (at < high)
    return mask
