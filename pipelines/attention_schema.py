"""Typed configuration of conf/attention: one dataclass a kind of pattern."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.errors import ConfigError


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
    block: int = 64
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


ATTENTION_SCHEMAS: dict[str, Any] = {
    "window": WindowSchema,
    "longformer": LongformerSchema,
    "bigbird": BigBirdSchema,
    "dilated": DilatedSchema,
    "strided": StridedSchema,
    "fixed": FixedSchema,
    "logsparse": LogSparseSchema,
    "sparse_transformer": SparseTransformerSchema,
    "global": GlobalSchema,
    "random": RandomSchema,
    "topk": TopKSchema,
    "heads": HeadsSchema,
    "dense": DenseSchema,
    "auto": AutoSchema,
}


def attention_schema(kind: Any) -> Any:
    """The schema of a kind of pattern. Raises ConfigError for one that no file configures."""
    if kind not in ATTENTION_SCHEMAS:
        raise ConfigError(
            f"attention.kind: found {kind!r}, expected one of {sorted(ATTENTION_SCHEMAS)}"
        )
    return ATTENTION_SCHEMAS[kind]
