"""Patterns under a budget: of every family the largest member whose predicted cost fits.

Sizes follow the papers' proportions, so that each family has one size left to solve for. What is
best among the members that fit is a question for data, not for arithmetic (`pipelines.choose`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isqrt

from core.attention.blocks import Random
from core.attention.learned import TopK
from core.attention.patterns import Causal, Dense, Pattern, Window
from core.attention.published import bigbird, logsparse, longformer, sparse_transformer
from core.attention.steps import Dilated, Fixed, Strided

Sizes = tuple[tuple[str, int], ...]
LEAST_FILL = 0.5  # what uses less of the budget even at its largest is no answer to it


@dataclass(frozen=True)
class Workload:
    """The attention of one training step.

    Attributes:
        tokens: length of a sequence.
        sequences: how many of them a step has; a fraction where a step asks for a few queries of
            a long sequence only.
        layers, heads, size: of the encoder; `size` is the channels of a head.
        block: see `Pattern.plan`; 1 where a step computes exactly the pairs of the pattern.
    """

    tokens: int
    sequences: float
    layers: int
    heads: int
    size: int
    block: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A member of a family: `attention=family` with these sizes on the command line.

    `fill` is its predicted cost as a share of the budget, at most 1.
    """

    name: str
    family: str
    sizes: Sizes
    pattern: Pattern
    fill: float


@dataclass(frozen=True)
class LeftOut:
    """A family without a candidate, and why. `least` is the cost of its cheapest member as a share
    of the budget where that is above 1, None where the reason is another."""

    name: str
    reason: str
    least: float | None


@dataclass(frozen=True)
class Family:
    """`make` of a size, the sizes from the cheapest member to the dearest.

    `make` returns all sizes by their names and the pattern.
    """

    name: str
    kind: str
    make: Callable[[int], tuple[dict[str, int], Pattern]]
    range: range


def candidates(
    tokens: int,
    fill: Callable[[Pattern], float],
    *,
    causal: bool = False,
    globals_: tuple[int, ...] = (0,),
    objection: Callable[[Pattern], str | None] = lambda pattern: None,
) -> tuple[list[Candidate], list[LeftOut]]:
    """The largest member of every family that the budget allows, and the families without one.

    Args:
        tokens: length of a sequence.
        fill: predicted cost of a pattern as a share of the budget.
        causal: cut every pattern to the past.
        globals_: positions of global tokens, where a family has them.
        objection: why the task cannot take a pattern; None where it can.
    """
    found: list[tuple[Family, Candidate]] = []
    left_out: list[LeftOut] = []
    for family in _families(tokens, globals_):
        best = _largest(family, fill, causal, objection)
        if isinstance(best, Candidate):
            found.append((family, best))
        else:
            left_out.append(best)
    most = max((best.fill for _, best in found), default=0.0)
    small = [_too_small(family, best, most) for family, best in found]
    left_out += [reason for reason in small if reason]
    return [best for (_, best), reason in zip(found, small, strict=True) if not reason], left_out


def share_of_dense(pattern: Pattern, load: Workload, causal: bool = False) -> float:
    """Attention cost of the pattern as a share of the dense one's of the same length."""
    return attention_cost(pattern, load) / attention_cost(dense_twin(causal), load)


def attention_cost(pattern: Pattern, load: Workload) -> float:
    """Of one training step, forward and backward: FLOPs of the products, masked pairs included."""
    span = range(load.tokens)
    cost = pattern.plan(span, span, load.block).cost(load.size, load.heads)
    return load.layers * load.sequences * (cost.forward_flops + cost.backward_flops)


def dense_twin(causal: bool) -> Pattern:
    """Every pair, or every pair with the past."""
    return Dense() & Causal() if causal else Dense()


def _families(n: int, globals_: tuple[int, ...]) -> Iterator[Family]:
    n = max(n, 2)
    yield Family("window", "window", _window, range(1, n))
    # longer steps cost too little to use a budget before they reach the sequence's ends
    step = 2
    while step <= isqrt(n):
        make = partial(_dilated, step)
        yield Family(f"dilated-{step}", "dilated", make, range(1, (n - 1) // step + 1))
        step *= 4
    yield Family("longformer", "longformer", partial(_longformer, globals_), range(1, n))
    blocks = range(1, max(2, n // Random(1, 0).block))
    yield Family("bigbird", "bigbird", partial(_bigbird, globals_), blocks)
    yield Family("strided", "strided", _strided, range(max(2, n // 2), 1, -1))
    # cheapest where window and stride cost the same; from there on the window grows
    cheapest = max(2, isqrt(n // 2))
    steps = range(cheapest, max(n, cheapest + 1))
    yield Family("sparse_transformer", "sparse_transformer", _sparse_transformer, steps)
    # 8 summary tokens at the paper's 12,160 to 16,384 tokens, where its blocks have 128
    summary = max(1, isqrt(n) // 16)
    cheapest = max(summary + 1, isqrt(n * summary))
    yield Family("fixed", "fixed", partial(_fixed, summary), range(cheapest, max(n, cheapest + 1)))
    yield Family("logsparse", "logsparse", _logsparse, range(1, n))
    yield Family("topk", "topk", _topk, range(1, max(2, n // TopK(1).block + 1)))


def _topk(blocks: int) -> tuple[dict[str, int], Pattern]:
    return {"blocks": blocks}, TopK(blocks)


def _window(radius: int) -> tuple[dict[str, int], Pattern]:
    return {"radius": radius}, Window(radius)


def _dilated(step: int, radius: int) -> tuple[dict[str, int], Pattern]:
    return {"radius": radius, "step": step}, Dilated(radius, step)


def _longformer(globals_: tuple[int, ...], radius: int) -> tuple[dict[str, int], Pattern]:
    return {"radius": radius}, longformer(radius, globals_)


def _bigbird(globals_: tuple[int, ...], blocks: int) -> tuple[dict[str, int], Pattern]:
    """As many window keys as random ones, like the paper's base models."""
    radius = blocks * Random(1, 0).block // 2
    sizes = {"radius": radius, "random_blocks": blocks}
    return sizes, bigbird(radius, blocks, globals_)


def _strided(step: int) -> tuple[dict[str, int], Pattern]:
    return {"step": step}, Strided(step)


def _sparse_transformer(step: int) -> tuple[dict[str, int], Pattern]:
    return {"step": step}, sparse_transformer(step)


def _fixed(summary: int, step: int) -> tuple[dict[str, int], Pattern]:
    return {"step": step, "summary": summary}, Fixed(step, summary)


def _logsparse(radius: int) -> tuple[dict[str, int], Pattern]:
    return {"radius": radius, "base": 2}, logsparse(radius, 2)


def _largest(
    family: Family,
    fill: Callable[[Pattern], float],
    causal: bool,
    objection: Callable[[Pattern], str | None],
) -> Candidate | LeftOut:
    def member(place: int) -> Candidate:
        sizes, pattern = family.make(family.range[place])
        if causal:
            pattern = pattern & Causal()
        return Candidate(family.name, family.kind, tuple(sizes.items()), pattern, fill(pattern))

    def fits(tried: Candidate) -> bool:
        return tried.fill <= 1 and objection(tried.pattern) is None

    best = member(0)
    if reason := objection(best.pattern):
        return LeftOut(family.name, reason, None)
    if best.fill > 1:
        reason = f"its cheapest member, {said(best)}, costs {best.fill:.3g} times the budget"
        return LeftOut(family.name, reason, best.fill)
    # the member at `low` fits; costs rise with the place but for the rounding to blocks
    low, high, count = 0, 1, len(family.range)
    while high < count and fits(tried := member(high)):
        low, high, best = high, 2 * high, tried
    high = min(high, count)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(tried := member(middle)):
            low, best = middle, tried
        else:
            high = middle
    return best


def _too_small(family: Family, best: Candidate, most: float) -> LeftOut | None:
    """Where even the family's largest member uses little of the budget, or, of a budget that is
    above what any family can use, little of the `most` that one uses."""
    largest, _ = family.make(family.range[-1])
    usable = 1.0 if most >= LEAST_FILL else most
    if best.sizes != tuple(largest.items()) or best.fill >= LEAST_FILL * usable:
        return None
    used = f"uses {best.fill:.2g} of the budget only, others up to {most:.2g}"
    return LeftOut(family.name, f"its largest member, {said(best)}, {used}", None)


def said(candidate: Candidate) -> str:
    """Its sizes in words."""
    return ", ".join(f"{name}={size}" for name, size in candidate.sizes)
