"""Multi-head self-attention over a plan: projections and rotary positions around `attend`."""

from __future__ import annotations

from torch import Tensor, nn

from core.attention import Plan, attend
from core.errors import ConfigError
from core.model.rotary import rotate


class SparseAttention(nn.Module):
    """Self-attention [B, N, dim] -> [B, N, dim] with `heads` heads of dim / heads channels.

    Raises ConfigError where dim doesn't split into heads of an even size, which rotary needs.
    """

    def __init__(
        self, dim: int, heads: int, rotary_base: float = 10000.0, backend: str = "auto"
    ) -> None:
        super().__init__()
        if heads < 1 or dim % (2 * heads):
            raise ConfigError(
                f"dim: got {dim} with {heads} heads, expected a multiple of 2 * heads"
            )
        self.heads, self.rotary_base, self.backend = heads, rotary_base, backend
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)

    def forward(
        self, x_BND: Tensor, plan: Plan, positions: Tensor, bounds: Tensor | None = None
    ) -> Tensor:
        """`positions` as in `rotate`, `plan` and `bounds` as in `attend`."""
        heads = self.project_in(x_BND).unflatten(-1, (3, self.heads, -1))
        q_BHND, k_BHND, v_BHND = heads.permute(2, 0, 3, 1, 4).unbind(0)
        q_BHND = rotate(q_BHND, positions, self.rotary_base)
        k_BHND = rotate(k_BHND, positions, self.rotary_base)
        out_BHND = attend(q_BHND, k_BHND, v_BHND, plan, bounds, backend=self.backend)
        return self.project_out(out_BHND.transpose(1, 2).flatten(2))
