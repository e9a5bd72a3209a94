"""Bounds: for each query a half-open interval of the keys it may see; all that depends on a batch.

Shape suffixes: B batch, N queries.
"""

from __future__ import annotations

from torch import Tensor, int32, int64

from core.errors import ConfigError


def check_bounds(bounds: Tensor | None, q_BHND: Tensor) -> None:
    """Raises ConfigError for bounds that are no integers [B or 1, N, 2] where the queries are."""
    if bounds is None:
        return
    batch, queries = q_BHND.shape[0], q_BHND.shape[2]
    fits = bounds.ndim == 3 and bounds.shape[0] in (1, batch)
    fits = fits and bounds.dtype in (int32, int64) and bounds.device == q_BHND.device
    if not fits or tuple(bounds.shape[1:]) != (queries, 2):
        raise ConfigError(
            f"bounds: got {bounds.dtype} {tuple(bounds.shape)} on {bounds.device}, expected "
            f"int32 [{batch} or 1, {queries}, 2] on {q_BHND.device}"
        )
