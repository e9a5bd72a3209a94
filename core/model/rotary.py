"""Rotary position encoding (Su et al. 2021, arXiv:2104.09864) over token index or real time."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x_BHND: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Turns pairs of channels by an angle that grows with position.

    The product of a rotated query and a rotated key depends on the difference of their positions
    only. Angles are taken in float64, so that times such as seconds since 1970 keep theirs.

    Args:
        x_BHND: queries or keys; D even, channel d turns with channel d + D / 2.
        positions: [N] or [B, N], token index or time in any one unit.
        base: the slowest pair turns by 1 / base (nearly) a unit, the fastest by 1 radian.

    Returns:
        The rotated tensor, in the shape and dtype of x_BHND.
    """
    half = x_BHND.shape[-1] // 2
    steps = torch.arange(half, dtype=torch.float64, device=x_BHND.device) / half
    angles = positions.to(torch.float64)[..., None] * base**-steps
    if angles.ndim == 3:
        angles = angles[:, None]
    cos, sin = angles.cos().to(x_BHND.dtype), angles.sin().to(x_BHND.dtype)
    first, second = x_BHND[..., :half], x_BHND[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
