"""`init=BUNDLE`: a training that begins from the weights of an earlier one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Domain, Fold, Source, Task
from core.errors import ConfigError
from pipelines.learn import BEGUN

if TYPE_CHECKING:
    from core.bundle import Bundle


def opened(config: DictConfig, domain: Domain) -> Bundle | None:
    """The bundle to begin from, None where the training begins anew.

    Raises:
        ConfigError: it is none, or none of this domain; or attention=auto, whose short trainings
            would begin anew.
    """
    if config.init is None:
        return None
    from core.bundle import load_bundle

    bundle = load_bundle(Path(config.init))
    if bundle.domain != domain.name:
        raise ConfigError(
            f"init: found a bundle of domain {bundle.domain} at {config.init}, expected one of "
            f"{domain.name}"
        )
    if config.attention.kind == "auto":
        raise ConfigError(
            "init: found attention=auto beside it, which compares patterns by trainings that begin "
            "anew; name the pattern"
        )
    return bundle


def refuse_seen(start: Bundle, source: Source, task: Task, folds: Sequence[Fold]) -> None:
    """Raises ConfigError where a fold tests on rows that `start` has learned from."""
    seen = task.seen_rows(source, start.label_intervals)
    for fold in folds:
        both = int(fold.test.is_in(seen.implode()).sum())
        if both:
            raise ConfigError(
                f"init: {start.path} has learned from {both} of the {len(fold.test)} test rows of "
                f"fold {fold.name} ({start.label_intervals[0]} and so on), expected none: a figure "
                "on them says nothing about new data; begin from a bundle of other rows"
            )


def told(start: Bundle | None, folder: Path) -> dict[str, Any]:
    """The summary's `init`: what the training of this folder took over; nothing where it began
    anew."""
    if start is None:
        return {}
    counts = json.loads((folder / BEGUN).read_text())
    return {"init": {"bundle": str(start.path), "model_version": start.version, **counts}}
