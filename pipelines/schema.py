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
    """Optimiser and length of one training; see core.training.fit and core.training.module.

    `members` trainings, each with a seed of its own, are one model: the mean of their raw numbers.
    """

    members: int = 1
    steps: int = 1000
    seconds: float = 0.0
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    average: float = 0.0
    precision: str = "32-true"
    accelerator: str = "auto"
    deterministic: bool = True
    strategy: str = "single"
    checkpoint_every: int = 100
    log_every: int = 50


@dataclass
class LoggerSchema:
    """`csv` writes metrics.csv and `tensorboard` its events, a fold, under logs/ in the run folder;
    `none` writes none."""

    kind: str = MISSING


@dataclass
class JobSchema:
    """What a command that a scheduler starts takes: `prom`, a folder for the run's metrics; see
    pipelines.prom."""

    prom: str | None = "${oc.env:LONGSTRAND_PROM,null}"


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
class TrainSchema(JobSchema):
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
    init: str | None = None


@dataclass
class SweepSchema:
    """What a trial may change, and what it is judged by on validation rows.

    `metric` is `loss`, or a name among the task's metrics with its `direction`; `folds` is how
    many folds a trial trains, all that have a test where null; `batches` is how many the loss is
    the mean of.
    """

    metric: str = "loss"
    direction: str = "minimize"
    folds: int | None = 1
    batches: int = 50
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class SweepCommandSchema:
    """python -m pipelines.sweep"""

    domain: Any = MISSING
    model: Any = MISSING
    attention: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    sweep: Any = MISSING
    n_trials: int = 20
    study: str = MISSING
    seed: int = 0
    threads: int = 0
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
class NoBacktestSchema:
    kind: str = "none"


@dataclass
class BacktestSchema:
    """See conf/backtest/weekly.yaml."""

    kind: str = "weekly"
    retrain: str = "never"
    start: str | None = None
    until: str | None = None
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass
class EvaluateSchema(JobSchema):
    """python -m pipelines.evaluate"""

    bundle: str = MISSING
    registry: Any = MISSING
    backtest: Any = MISSING
    config: dict[str, Any] = field(default_factory=dict)
    allow_overlap: bool = False
    out: str | None = None
    runs: str = MISSING
    threads: int = 0


@dataclass
class ScoreSchema(JobSchema):
    """python -m pipelines.score"""

    bundle: str = MISSING
    registry: Any = MISSING
    input: str = MISSING
    output: str = MISSING
    history: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    engine: Any = MISSING
    threads: int = 1


@dataclass
class ClusterSchema:
    """Where `--emit k8s` has the job run.

    Args:
        image: has longstrand installed, GNU date, and python on its path.
        claim: PersistentVolumeClaim with data, models and runs; mounted at `mount`, where the job
            runs.
        deadline: seconds after which a job is given up, waiting for a lock included.
    """

    image: str | None = None
    claim: str | None = None
    mount: str = "/work"
    cpu: str = "2"
    memory: str = "8Gi"
    deadline: int = 86400


@dataclass
class ScheduleSchema:
    """python -m pipelines.schedule; see pipelines.schedule.job.Job. `python`, `folder`, `user`:
    where they are on the machine that the files are for."""

    cron: str = MISSING
    timezone: str = MISSING
    job: str = MISSING
    name: str | None = None
    grace: int = 3600
    folder: str = "."
    emit: str | None = None
    out: str | None = None
    python: str | None = None
    user: str | None = None
    cluster: ClusterSchema = field(default_factory=ClusterSchema)


@dataclass
class GateSchema:
    """See pipelines.retrain.gate."""

    metric: str | None = None
    min_gain: float = 0.0
    confidence: float = 0.95
    calibration_slack: float = 0.05
    repeats: int = 400


@dataclass
class RetrainSchema(JobSchema):
    """python -m pipelines.retrain"""

    domain: Any = MISSING
    model: Any = MISSING
    attention: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    registry: Any = MISSING
    as_of: str = MISSING
    name: str | None = None
    init: str | None = None
    force: bool = False
    dry_run: bool = False
    gate: GateSchema = field(default_factory=GateSchema)
    seed: int = 0
    threads: int = 0
    needs: str | None = None
    runs: str = MISSING


_SCHEMAS: dict[tuple[str | None, str], Any] = {
    ("schema", "train"): TrainSchema,
    ("schema", "simulate"): SimulateSchema,
    ("schema", "sweep"): SweepSchema,
    ("schema", "sweep_command"): SweepCommandSchema,
    ("schema", "evaluate"): EvaluateSchema,
    ("schema", "score"): ScoreSchema,
    ("schema", "retrain"): RetrainSchema,
    ("schema", "schedule"): ScheduleSchema,
    ("schema", "model"): ModelSchema,
    ("schema", "trainer"): TrainerSchema,
    ("schema", "logger"): LoggerSchema,
    ("schema", "mlflow_logger"): MlflowLoggerSchema,
    ("schema", "engine"): EngineSchema,
    ("schema", "registry_command"): RegistryCommandSchema,
    ("schema/backtest", "none"): NoBacktestSchema,
    ("schema/backtest", "weekly"): BacktestSchema,
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
