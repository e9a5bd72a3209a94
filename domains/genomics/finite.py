"""A model whose numbers are not finite has learnt nothing: say so, never pass it on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.errors import LongstrandError


def require_finite(numbers: np.ndarray, place: Callable[[int], str]) -> None:
    """Raises LongstrandError where a number is nan or infinite.

    Args:
        place: index -> what is there, for the message.
    """
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        first = int(bad[0])
        raise LongstrandError(
            f"{place(first)}: the model's number is {numbers[first]}, and {len(bad)} of "
            f"{len(numbers)} are not finite; its training diverged: train again with a lower "
            "trainer.lr and trainer.clip above 0"
        )
