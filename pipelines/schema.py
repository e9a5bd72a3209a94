"""Typed configuration: dataclasses that Hydra checks every key and value against.

They live in the group `schema/`, so that they do not show up as choices of `model=` and the
like; each yaml in conf/ merges its own by `- /schema/...@_here_`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from pipelines.attention_schema import ATTENTION_SCHEMAS
from pipelines.domains import domain_names, load_domain


@dataclass
class ModelSchema:
    """Size of the encoder."""

    dim: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int | None = None
    ffn: int = 4
    activation: str = "gelu"
    norm: str = "layer"
    dropout: float = 0.1
    stochastic_depth: float = 0.0
    checkpoint: bool = False


@dataclass
class TrainerSchema:
    """Optimiser and length of one training; see core.training.fit and core.training.module."""

    steps: int = 1000
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    average: float = 0.0
    precision: str = "32-true"
    accelerator: str = "auto"
    deterministic: bool = True
    checkpoint_every: int = 100
    log_every: int = 50


@dataclass
class LoggerSchema:
    """`csv` writes metrics.csv and `tensorboard` its events, a fold, under logs/ in the run folder;
    `none` writes none."""

    kind: str = MISSING


@dataclass
class MlflowLoggerSchema:
    """One MLflow run a fold, in `experiment`."""

    kind: str = "mlflow"
    uri: str = MISSING
    experiment: str = "longstrand"


@dataclass
class EngineSchema:
    """Who scores partitions: `local` is this process, or `workers` processes where that is more
    than one; `ray` is as many actors, on this machine or on the cluster at `address`."""

    kind: str = "local"
    workers: int = 1
    address: str | None = None


@dataclass
class TrainSchema:
    """python -m pipelines.train"""

    domain: Any = MISSING
    model: Any = MISSING
    attention: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    seed: int = 0
    threads: int = 0
    runs: str = MISSING
    resume: str = "no"
    needs: str | None = None


@dataclass
class SimulateSchema:
    """python -m pipelines.simulate. A domain may choose its model, attention and trainer, so the
    groups are here to be chosen from; simulating uses none of them."""

    domain: Any = MISSING
    model: Any = MISSING
    attention: Any = MISSING
    trainer: Any = MISSING
    out: str = MISSING


@dataclass
class FolderRegistrySchema:
    kind: str = "folder"
    root: str = MISSING


@dataclass
class MlflowRegistrySchema:
    kind: str = "mlflow"
    uri: str = MISSING
    root: str = MISSING


@dataclass
class RegistryCommandSchema:
    """python -m pipelines.registry; each verb says which of these it takes."""

    registry: Any = MISSING
    name: str | None = None
    version: str | None = None
    bundle: str | None = None
    note: dict[str, str] = field(default_factory=dict)


@dataclass
class EvaluateSchema:
    """python -m pipelines.evaluate"""

    bundle: str = MISSING
    registry: Any = MISSING
    config: dict[str, Any] = field(default_factory=dict)
    allow_overlap: bool = False
    out: str | None = None
    threads: int = 0


@dataclass
class ScoreSchema:
    """python -m pipelines.score"""

    bundle: str = MISSING
    registry: Any = MISSING
    input: str = MISSING
    output: str = MISSING
    history: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    engine: Any = MISSING
    threads: int = 1


_SCHEMAS: dict[tuple[str | None, str], Any] = {
    ("schema", "train"): TrainSchema,
    ("schema", "simulate"): SimulateSchema,
    ("schema", "evaluate"): EvaluateSchema,
    ("schema", "score"): ScoreSchema,
    ("schema", "model"): ModelSchema,
    ("schema", "trainer"): TrainerSchema,
    ("schema", "logger"): LoggerSchema,
    ("schema", "mlflow_logger"): MlflowLoggerSchema,
    ("schema", "engine"): EngineSchema,
    ("schema", "registry_command"): RegistryCommandSchema,
    ("schema/registry", "folder"): FolderRegistrySchema,
    ("schema/registry", "mlflow"): MlflowRegistrySchema,
}


def register_schemas() -> None:
    """Make the schemas and every domain's config known to Hydra."""
    store = ConfigStore.instance()
    for (group, name), node in _SCHEMAS.items():
        store.store(group=group, name=name, node=node)
    for name, node in ATTENTION_SCHEMAS.items():
        store.store(group="schema/attention", name=name, node=node)
    for name in domain_names():
        store.store(group="schema/domain", name=name, node=load_domain(name).config)
