"""Padding as bounds: every query sees the real tokens only."""

from __future__ import annotations

import torch
from torch import Tensor

from core.errors import ConfigError


def real_span(padding: Tensor, x_BND: Tensor) -> Tensor | None:
    """Bounds int32 [B, N, 2] that keep every query to the real tokens; None where all are.

    `padding` is bool [B, N], True for a real token of x_BND. Raises ConfigError for another shape
    or dtype, or for a gap between the real tokens of a sequence.
    """
    expected = x_BND.shape[:2]
    if padding.shape != expected or padding.dtype != torch.bool:
        raise ConfigError(
            f"padding: got {padding.dtype} {tuple(padding.shape)}, "
            f"expected torch.bool {tuple(expected)}"
        )
    if bool(padding.all()):
        return None
    count = padding.sum(1)
    first = padding.int().argmax(1)
    index = torch.arange(padding.shape[1], device=padding.device)
    span = (index >= first[:, None]) & (index < (first + count)[:, None])
    if not bool((span == padding).all()):
        row = int((span != padding).any(1).nonzero()[0])
        raise ConfigError(
            f"padding: got a gap between the real tokens of sequence {row}, "
            "expected neighbours with padding around them only"
        )
    ends = torch.stack((first, first + count), -1).int()
    return ends[:, None].expand(-1, padding.shape[1], -1)
