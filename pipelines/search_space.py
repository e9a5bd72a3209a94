"""What a sweep may change, and what a trial drew of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from core.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_RANGE = {"low", "high", "log", "step"}
# Changing these changes the question, not the answer; data is read once.
_FIXED = re.compile(r"(domain\.data|domain\.split|logger|seed|runs|resume|threads|needs)(\.|$)")


def distributions(space: DictConfig) -> dict[str, BaseDistribution]:
    """`sweep.space`: a setting's name -> {low, high, log, step} or {choices}.

    Raises:
        ConfigError: no settings, or one that can't be searched over.
    """
    if not space:
        raise ConfigError("sweep.space: found nothing, expected settings with their ranges")
    return {str(name): _distribution(str(name), node) for name, node in space.items()}


def applied(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """The configuration with these settings. An unknown name or a value of a wrong type raises what
    OmegaConf raises."""
    changed = config.copy()
    OmegaConf.set_struct(changed, True)
    for name, value in values.items():
        OmegaConf.update(changed, name, value)
    return changed


def check(config: DictConfig, space: Mapping[str, Any]) -> None:
    """Raises what OmegaConf raises where a setting has no such name or takes no such value."""
    for name, distribution in space.items():
        choices = getattr(distribution, "choices", None)
        for value in choices or (distribution.low, distribution.high):
            applied(config, {name: value})


def _distribution(name: str, node: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if _FIXED.match(name):
        raise ConfigError(f"sweep.space: found {name}, which a trial must not change")
    found = set(node) if isinstance(node, DictConfig) else set()
    if found == {"choices"}:
        return CategoricalDistribution(list(node.choices))
    if not {"low", "high"} <= found <= _RANGE:
        raise ConfigError(
            f"sweep.space.{name}: found {node}, expected {{choices: [...]}} or "
            "{low: ..., high: ...} with log: true or step: ... where wanted"
        )
    options = {str(key): value for key, value in node.items()}
    whole = all(isinstance(options[edge], int) for edge in ("low", "high"))
    try:
        return IntDistribution(**options) if whole else FloatDistribution(**options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"sweep.space.{name}: {error}") from error
