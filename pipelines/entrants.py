"""What competes under attention=auto: patterns within the budget, and what they would take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from core.contract import Fold
from core.errors import ConfigError
from pipelines.tries import Bench

if TYPE_CHECKING:
    from core.attention import Pattern
    from core.attention.auto import Candidate, LeftOut, Workload
    from core.model.encoder import EncoderConfig

log = logging.getLogger("longstrand.choose")

DENSE_AT_MOST = 16  # times the others' attention: a dense twin that costs more is not tried
SPEED_STEPS = 12


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step: what every pattern pays, and what a unit of attention costs."""

    rest: float
    unit: float

    def step(self, attention: float) -> float:
        return self.rest + self.unit * attention


@dataclass(frozen=True)
class Entrants:
    """Attributes:
    within: patterns that may be chosen.
    left_out: families of which none may.
    dense: the dense twin where it may not be chosen: it is compared, no more.
    """

    within: Sequence[Candidate]
    left_out: Sequence[LeftOut]
    dense: Candidate | None
    load: Workload
    speed: Speed

    def dense_ratio(self) -> float:
        """Attention of the dense twin as a multiple of the dearest pattern's within."""
        from core.attention.auto import attention_cost

        assert self.dense is not None
        most = max(attention_cost(one.pattern, self.load) for one in self.within)
        return attention_cost(self.dense.pattern, self.load) / most

    def dense_is_tried(self) -> bool:
        return self.dense is not None and self.dense_ratio() <= DENSE_AT_MOST


def entrants(bench: Bench, fold: Fold, encoder: EncoderConfig) -> Entrants:
    """Sizes solved for the budget; `fold` is where seconds are measured.

    Raises:
        ConfigError: nothing fits.
    """
    from core.attention.auto import LEAST_FILL, Candidate, attention_cost, candidates, dense_twin

    node, task = bench.config.attention, bench.task
    load, twin = task.workload(bench.source, encoder), dense_twin(node.causal)
    dense = attention_cost(twin, load)
    speed = cache(lambda: _speed(bench, fold, encoder, load))

    def fill(pattern: Pattern) -> float:
        cost, limits = attention_cost(pattern, load), node.budget
        parts = []
        if limits.share_of_dense is not None:
            parts.append(cost / dense / limits.share_of_dense)
        if limits.seconds_per_step is not None:
            parts.append(speed().step(cost) / limits.seconds_per_step)
        return max(parts)

    within, left_out = candidates(
        load.tokens,
        fill,
        causal=node.causal,
        globals_=tuple(node.global_positions),
        objection=task.objection,
    )
    whole = Candidate("dense", "dense", (), twin, fill(twin))
    choosable = whole.fill <= 1 and task.objection(twin) is None
    within = [*within, whole] if choosable else within
    if not within:
        raise _nothing_fits(node, left_out, load.tokens)
    most = max(one.fill for one in within)
    if most < LEAST_FILL:
        log.warning(
            "attention.budget limits nothing: at %d tokens no pattern uses more than %.2g of it",
            load.tokens,
            most,
        )
    return Entrants(within, left_out, None if choosable else whole, load, speed())


def _speed(bench: Bench, fold: Fold, encoder: EncoderConfig, load: Workload) -> Speed:
    """Measured on two windows: seconds rise by as much as their attention costs more.

    Each is measured twice, in turns, and its faster counts: other work on the machine only adds.
    """
    from core.attention.auto import attention_cost

    windows = {"narrow": _speed_window(bench, 1), "wide": wide_window(bench, load.tokens)}
    seconds: dict[str, list[float]] = {name: [] for name in windows}
    for turn in ("", "-again"):
        for name, pattern in windows.items():
            shaped = replace(encoder, pattern=pattern)
            tried = bench.measure(fold, 0, f"speed-{name}{turn}", shaped, SPEED_STEPS)
            seconds[name].append(tried.seconds)
    narrow, wide = (min(seconds[name]) for name in windows)
    costs = [attention_cost(pattern, load) for pattern in windows.values()]
    rise = costs[1] - costs[0]  # none where a block holds the whole sequence
    unit = max(0.0, wide - narrow) / rise if rise else 0.0
    return Speed(max(0.0, narrow - unit * costs[0]), unit)


def _speed_window(bench: Bench, radius: int) -> Pattern:
    from core.attention import Causal, Window

    return Window(radius) & Causal() if bench.config.attention.causal else Window(radius)


def wide_window(bench: Bench, tokens: int) -> Pattern:
    """Wide enough that its attention shows beside the rest of a step; the task takes it whole."""
    radius = max(2, tokens // 8, min(tokens // 2, 512))
    while radius > 2 and bench.task.objection(_speed_window(bench, radius)):
        radius //= 2
    return _speed_window(bench, radius)


def _nothing_fits(node: DictConfig, left_out: Sequence[LeftOut], tokens: int) -> ConfigError:
    costly = [(one.least, one.name) for one in left_out if one.least is not None]
    if not costly:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out)
        return ConfigError(f"attention=auto: found no pattern to choose ({reasons})")
    least, name = min(costly)
    given = ", ".join(f"{key}={limit:g}" for key, limit in node.budget.items() if limit)
    return ConfigError(
        f"attention.budget: found {given}, but at {tokens} tokens even the cheapest pattern, "
        f"{name}, costs {least:.3g} times that; {_advice(node)}"
    )


def _advice(node: DictConfig) -> str:
    """Longer sequences need a smaller share of dense attention, and more seconds."""
    if node.budget.seconds_per_step is None:
        return (
            "raise the budget, or lengthen the sequences: the longer they are, the smaller the "
            "share of dense attention that a sparse pattern needs"
        )
    if node.budget.share_of_dense is None:
        return "raise the budget, or make a step smaller: shorter sequences, batch or model"
    return "raise the budget"
