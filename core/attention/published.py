"""Published patterns, built out of the smaller ones."""

from __future__ import annotations

from collections.abc import Iterable

from core.attention.blocks import Random
from core.attention.heads import HeadGroups
from core.attention.patterns import Causal, Pattern, Window
from core.attention.steps import LogSparse, Strided
from core.attention.tokens import Global


def longformer(radius: int, globals_: Iterable[int] = (), causal: bool = False) -> Pattern:
    """Sliding window and global tokens (Beltagy et al. 2020, arXiv:2004.05150)."""
    positions = tuple(globals_)
    pattern = Window(radius) | Global(positions) if positions else Window(radius)
    return pattern & Causal() if causal else pattern


def bigbird(
    radius: int,
    random_blocks: int,
    globals_: Iterable[int] = (),
    seed: int = 0,
    causal: bool = False,
    heads: int | None = None,
    block: int = 64,
) -> Pattern:
    """Window, global tokens and random blocks (Zaheer et al. 2020, arXiv:2007.14062).

    Blocks of 128 are much faster on a GPU, whose tiles they fill. With `heads`, the number of
    heads of keys, each of them has random blocks of its own, as in the paper; without, all share
    one draw, which is faster.
    """
    near = longformer(radius, globals_)
    each = [near | Random(random_blocks, seed, block, head) for head in range(heads or 1)]
    pattern = each[0] if len(each) == 1 else HeadGroups(tuple((one, 1) for one in each))
    return pattern & Causal() if causal else pattern


def sparse_transformer(step: int, causal: bool = False) -> Pattern:
    """Strided attention of the Sparse Transformer (Child et al. 2019, arXiv:1904.10509).

    The last `step` tokens and every step-th token of all. The paper is causal and takes a step
    near the square root of the length; its fixed attention is `Fixed`.
    """
    pattern = Window(step) | Strided(step)
    return pattern & Causal() if causal else pattern


def logsparse(radius: int, base: int = 2, causal: bool = False) -> Pattern:
    """Local and log-sparse attention (Li et al. 2019, arXiv:1907.00235), which is causal there."""
    pattern = Window(radius) | LogSparse(base)
    return pattern & Causal() if causal else pattern
