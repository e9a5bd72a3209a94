"""Typed configuration: dataclasses that Hydra checks every key and value against.

They live in the group `schema/`, so that they do not show up as choices of `model=` and the
like; each yaml in conf/ merges its own by `- /schema/...@_here_`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from core.errors import ConfigError
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
class WindowSchema:
    kind: str = "window"
    radius: int = 64
    causal: bool = False


@dataclass
class LongformerSchema:
    kind: str = "longformer"
    radius: int = 64
    global_positions: list[int] = field(default_factory=lambda: [0])
    causal: bool = False


@dataclass
class BigBirdSchema:
    kind: str = "bigbird"
    radius: int = 64
    random_blocks: int = 3
    global_positions: list[int] = field(default_factory=lambda: [0])
    seed: int = 0
    heads: int | None = None
    causal: bool = False


@dataclass
class DilatedSchema:
    kind: str = "dilated"
    radius: int = 64
    step: int = 2
    causal: bool = False


@dataclass
class StridedSchema:
    kind: str = "strided"
    step: int = 64
    causal: bool = False


@dataclass
class FixedSchema:
    kind: str = "fixed"
    step: int = 64
    summary: int = 4
    causal: bool = False


@dataclass
class LogSparseSchema:
    kind: str = "logsparse"
    radius: int = 16
    base: int = 2
    causal: bool = False


@dataclass
class SparseTransformerSchema:
    kind: str = "sparse_transformer"
    step: int = 64
    causal: bool = False


@dataclass
class GlobalSchema:
    kind: str = "global"
    global_positions: list[int] = field(default_factory=lambda: [0])
    causal: bool = False


@dataclass
class RandomSchema:
    kind: str = "random"
    random_blocks: int = 4
    block: int = 128
    seed: int = 0
    causal: bool = False


@dataclass
class TopKSchema:
    kind: str = "topk"
    blocks: int = 8
    block: int = 64
    radius: int | None = None
    causal: bool = False


@dataclass
class HeadsSchema:
    """Each group: `kv_heads`, `kind` and the options of that kind."""

    kind: str = "heads"
    groups: list[dict[str, Any]] = field(default_factory=list)
    causal: bool = False


@dataclass
class DenseSchema:
    kind: str = "dense"
    causal: bool = False


@dataclass
class BudgetSchema:
    """At least one; where both are given both hold."""

    share_of_dense: float | None = None
    seconds_per_step: float | None = None


@dataclass
class TriesSchema:
    """Short trainings; see pipelines.choose."""

    steps: int = 50
    keep: float = 0.5
    batches: int = 20


@dataclass
class AutoSchema:
    kind: str = "auto"
    budget: BudgetSchema = field(default_factory=BudgetSchema)
    tries: TriesSchema = field(default_factory=TriesSchema)
    global_positions: list[int] = field(default_factory=lambda: [0])
    causal: bool = False


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
    """`csv` writes metrics.csv a fold under logs/ in the run folder; `none` writes none."""

    kind: str = MISSING


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
    threads: int = 0


@dataclass
class GateSchema:
    """See pipelines.retrain.gate."""

    metric: str | None = None
    min_gain: float = 0.0
    confidence: float = 0.95
    calibration_slack: float = 0.05
    repeats: int = 400


@dataclass
class RetrainSchema:
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
    ("schema", "evaluate"): EvaluateSchema,
    ("schema", "score"): ScoreSchema,
    ("schema", "retrain"): RetrainSchema,
    ("schema", "model"): ModelSchema,
    ("schema", "trainer"): TrainerSchema,
    ("schema", "logger"): LoggerSchema,
    ("schema", "registry_command"): RegistryCommandSchema,
    ("schema/registry", "folder"): FolderRegistrySchema,
    ("schema/attention", "window"): WindowSchema,
    ("schema/attention", "longformer"): LongformerSchema,
    ("schema/attention", "bigbird"): BigBirdSchema,
    ("schema/attention", "dilated"): DilatedSchema,
    ("schema/attention", "strided"): StridedSchema,
    ("schema/attention", "fixed"): FixedSchema,
    ("schema/attention", "logsparse"): LogSparseSchema,
    ("schema/attention", "sparse_transformer"): SparseTransformerSchema,
    ("schema/attention", "global"): GlobalSchema,
    ("schema/attention", "random"): RandomSchema,
    ("schema/attention", "topk"): TopKSchema,
    ("schema/attention", "heads"): HeadsSchema,
    ("schema/attention", "dense"): DenseSchema,
    ("schema/attention", "auto"): AutoSchema,
}


def attention_schema(kind: Any) -> Any:
    """The schema of a kind of pattern. Raises ConfigError for one that no file configures."""
    kinds = sorted(name for group, name in _SCHEMAS if group == "schema/attention")
    if kind not in kinds:
        raise ConfigError(f"attention.kind: found {kind!r}, expected one of {kinds}")
    return _SCHEMAS["schema/attention", kind]


def register_schemas() -> None:
    """Make the schemas and every domain's config known to Hydra."""
    store = ConfigStore.instance()
    for (group, name), node in _SCHEMAS.items():
        store.store(group=group, name=name, node=node)
    for name in domain_names():
        store.store(group="schema/domain", name=name, node=load_domain(name).config)
