"""Multi-head self-attention over a plan: projections and rotary positions around `attend`."""

from __future__ import annotations

from torch import Tensor, nn

from core.attention import Plan, StreamState, attend
from core.errors import ConfigError
from core.model.linear import Linear
from core.model.rotary import rotate


class SparseAttention(nn.Module):
    """Self-attention [B, N, dim] -> [B, N, dim] with `heads` heads of dim / heads channels.

    With `kv_heads` below `heads`, neighbouring query heads share a head of keys and values
    (grouped queries, Ainslie et al. 2023, arXiv:2305.13245); None gives each its own.

    Raises ConfigError where dim doesn't split into heads of an even size, which rotary needs, or
    heads into kv_heads.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        rotary_base: float = 10000.0,
        backend: str = "auto",
        kv_heads: int | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        check_heads(dim, heads, kv_heads)
        self.heads, self.kv_heads = heads, kv_heads
        self.rotary_base, self.backend = rotary_base, backend
        self.project_in = Linear(dim, dim + 2 * (dim // heads) * kv_heads)
        self.project_out = Linear(dim, dim)

    def forward(
        self, x_BND: Tensor, plan: Plan, positions: Tensor, bounds: Tensor | None = None
    ) -> Tensor:
        """`positions` as in `rotate`, `plan` and `bounds` as in `attend`."""
        q_BHND, k_BHND, v_BHND = self._heads(x_BND, positions)
        return self._joined(attend(q_BHND, k_BHND, v_BHND, plan, bounds, backend=self.backend))

    def stream(
        self, x_BND: Tensor, state: StreamState, positions: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """The next tokens of a stream: `positions` as in `rotate`, `start` as in `StreamState`."""
        q_BHND, k_BHND, v_BHND = self._heads(x_BND, positions)
        out_BHND = state.attend(q_BHND, k_BHND, v_BHND, start=start, backend=self.backend)
        return self._joined(out_BHND)

    def _heads(self, x_BND: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values."""
        split = self.project_in(x_BND).unflatten(-1, (self.heads + 2 * self.kv_heads, -1))
        sizes = (self.heads, self.kv_heads, self.kv_heads)
        q_BHND, k_BHND, v_BHND = split.transpose(1, 2).split(sizes, dim=1)
        q_BHND = rotate(q_BHND, positions, self.rotary_base)
        return q_BHND, rotate(k_BHND, positions, self.rotary_base), v_BHND

    def _joined(self, out_BHND: Tensor) -> Tensor:
        return self.project_out(out_BHND.transpose(1, 2).flatten(2))


def check_heads(dim: int, heads: int, kv_heads: int) -> None:
    """Raises ConfigError where dim, heads and kv_heads don't fit together."""
    if heads < 1 or dim % (2 * heads):
        raise ConfigError(f"dim: got {dim} with {heads} heads, expected a multiple of 2 * heads")
    if kv_heads < 1 or heads % kv_heads:
        raise ConfigError(f"kv_heads: got {kv_heads}, expected a divisor of {heads} heads")
