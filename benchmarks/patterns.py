"""The patterns that the attention benchmarks run, all of about 512 keys a query.

Windows have the radius 256. Blocks that random and learned patterns draw are 128 wide, and 64 in
the rows named so and in `bigbird`. Steps grow with the length where a pattern would cost more than
O(n log n).
"""

from __future__ import annotations

import math

from core.attention import (
    Dilated,
    Fixed,
    Pattern,
    Random,
    Strided,
    TopK,
    Window,
    bigbird,
    logsparse,
    longformer,
    sparse_transformer,
)

RADIUS = 256
KEYS = 512


def patterns(n: int) -> dict[str, Pattern]:
    """By name, for sequences of n tokens."""
    root = 1 << round(math.log2(math.sqrt(n)))
    return {
        "window": Window(RADIUS),
        "dilated": Dilated(RADIUS, 2),
        "longformer": longformer(RADIUS, (0,)),
        "bigbird": bigbird(RADIUS, 3, (0,)),
        "bigbird128": bigbird(RADIUS, 2, (0,), block=128),
        "random": Random(KEYS // 128, seed=0, block=128),
        "random64": Random(KEYS // 64, seed=0),
        "strided": Strided(max(2, n // KEYS)),
        "sparse_transformer": sparse_transformer(root),
        "fixed": Fixed(RADIUS, max(1, min(RADIUS // 2, KEYS * RADIUS // (2 * n)))),
        "logsparse": logsparse(RADIUS),
        "topk": TopK(KEYS // 128, block=128),
        "topk64": TopK(KEYS // 64),
    }
