"""torch's own attention, for a plan that is dense: any device, linear memory where torch has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from core.attention.backends.source import Source
from core.attention.patterns import Dense
from core.errors import ConfigError


def suits(sources: Sequence[Source], return_lse: bool) -> bool:
    one = len(sources) == 1 and sources[0].bounds is None
    return one and sources[0].plan.pattern == Dense() and not return_lse


def sdpa(q: Tensor, sources: Sequence[Source], scale: float) -> Tensor:
    """out_BHND. Raises ConfigError for anything but one dense source without bounds."""
    if not suits(sources, return_lse=False):
        patterns = [source.plan.pattern for source in sources]
        raise ConfigError(
            f"backend 'sdpa': got patterns {patterns}, expected one Dense() source without bounds"
        )
    k, v = sources[0].k, sources[0].v
    grouped = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
