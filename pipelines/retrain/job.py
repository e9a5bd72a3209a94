"""What the stages of one retraining share, and the models that it compares."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from core.contract import Challenge, Domain, Source, Task
from core.errors import ConfigError
from pipelines import build, runs
from pipelines.registry import Registry, Version
from pipelines.retrain.gate import Gate
from pipelines.retrain.stages import Stages

if TYPE_CHECKING:
    import polars as pl

    from core.bundle import Bundle

_NOT_PART_OF_THE_WORK = ("as_of", "force", "dry_run", "registry")


@dataclass(frozen=True)
class Model:
    """A published version, loaded, with the task it was trained for."""

    version: Version
    bundle: Bundle
    task: Task

    def predict(self, source: Source, rows: pl.Series) -> pl.DataFrame:
        """Columns of the task's `predict`, and score."""
        from core.bundle import restore

        tokenizer, module = restore(self.bundle, self.task)
        predictions = self.task.predict(module, source, tokenizer, rows)
        return build.scored(self.task, predictions, self.bundle.calibration, self.version.label)


@dataclass(frozen=True)
class Job:
    """One retraining: what it reads, the champion it has to beat, where it writes.

    Args:
        settings: the domain's configuration as of `day`.
        home: of all retrainings of this model: audit.jsonl and a folder each.
    """

    config: DictConfig
    domain: Domain
    settings: Any
    source: Source
    task: Task
    day: date
    name: str
    registry: Registry
    champion: Model | None
    home: Path
    stages: Stages

    @property
    def folder(self) -> Path:
        return self.stages.folder

    @property
    def gate(self) -> Gate:
        return gate_of(self.config)

    @cached_property
    def challenge(self) -> Challenge:
        seen = self.champion.bundle.label_intervals if self.champion else []
        return self.task.challenge(self.source, seen)


def gate_of(config: DictConfig) -> Gate:
    names = Gate.__dataclass_fields__
    return Gate(**{name: config.gate[name] for name in names})


def day_of(text: Any) -> date:
    """Raises ConfigError for what is no date."""
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise ConfigError(f"as_of: found {text!r}, expected a date such as 2024-03-01") from None


def work_hash(config: DictConfig) -> str:
    """Equal for two commands that would train and judge in the same way, whatever the day."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    kept = {k: v for k, v in plain.items() if k not in _NOT_PART_OF_THE_WORK}
    return runs.config_hash(OmegaConf.create(kept))


def key_of(day: date, fingerprint: str, work: str) -> str:
    """Of one retraining: the same day, data and configuration are the same retraining."""
    return hashlib.sha256(json.dumps([str(day), fingerprint, work]).encode()).hexdigest()[:12]


def load_model(domain: Domain, registry: Registry, version: Version) -> Model:
    """A version with its task as it was configured when it was trained."""
    from core.bundle import load_bundle

    there = registry.resolve(str(version))
    bundle = load_bundle(there.path)
    if bundle.domain != domain.name:
        raise ConfigError(
            f"{version}: found a bundle of the domain {bundle.domain}, expected {domain.name}; "
            "name another model with name=..."
        )
    settings = build.restored_config(domain, bundle.config, OmegaConf.create({}))
    return Model(there, bundle, domain.task(settings))
