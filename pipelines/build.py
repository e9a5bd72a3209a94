"""From Hydra nodes to the dataclasses of core and domains, once, at the edge."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.contract import Domain, Task
from core.errors import ConfigError
from core.memory import keep_freed_memory
from pipelines import mlflow_client

if TYPE_CHECKING:
    import polars as pl

    from core.attention import Pattern
    from core.calibration import Calibration
    from core.model.encoder import EncoderConfig
    from core.training.fit import FitConfig
    from core.training.lightning import OptimConfig


def domain_config(node: DictConfig) -> Any:
    """The domain's own dataclass, its cross-field checks made."""
    return OmegaConf.to_object(node)


def restored_config(domain: Domain, saved: Mapping[str, Any], overrides: DictConfig) -> Any:
    """A bundle's domain configuration with the user's `config.` overrides on top."""
    base = OmegaConf.merge(OmegaConf.structured(domain.config), dict(domain.restored(saved)))
    return OmegaConf.to_object(OmegaConf.merge(base, overrides))


def pattern(node: DictConfig) -> Pattern:
    """conf/attention/*.yaml -> a pattern."""
    from core.attention import Causal

    whole = _whole_pattern(node)
    return whole & Causal() if node.causal else whole


def _whole_pattern(node: DictConfig) -> Pattern:
    """The pattern that looks both ways."""
    from core import attention as a

    match node.kind:
        case "window":
            return a.Window(node.radius)
        case "dilated":
            return a.Dilated(node.radius, node.step)
        case "strided":
            return a.Strided(node.step)
        case "fixed":
            return a.Fixed(node.step, node.summary)
        case "logsparse":
            return a.logsparse(node.radius, node.base)
        case "sparse_transformer":
            return a.sparse_transformer(node.step)
        case "longformer":
            return a.longformer(node.radius, tuple(node.global_positions))
        case "bigbird":
            tokens = tuple(node.global_positions)
            drawn = {"heads": node.heads, "block": node.block}
            return a.bigbird(node.radius, node.random_blocks, tokens, node.seed, **drawn)
        case "global":
            return a.Global(tuple(node.global_positions))
        case "random":
            return a.Random(node.random_blocks, node.seed, node.block)
        case "topk":
            learned = a.TopK(node.blocks, node.block)
            return learned if node.radius is None else learned | a.Window(node.radius)
        case "heads":
            return a.HeadGroups(tuple(_group(group) for group in node.groups))
        case "dense":
            return a.Dense()
        case "auto":
            raise ConfigError(
                "attention=auto is for pipelines.train, which chooses by short trainings; name a "
                "pattern here"
            )
        case other:
            raise ConfigError(
                f"attention.kind: found {other!r}, expected the name of a file of conf/attention"
            )


def _group(node: DictConfig) -> tuple[Pattern, int]:
    """A pattern and how many heads of keys follow it; options left out have their defaults."""
    from pipelines.attention_schema import attention_schema

    options = dict(node)
    kv_heads = options.pop("kv_heads", None)
    if not isinstance(kv_heads, int):
        raise ConfigError(f"attention.groups: found kv_heads {kv_heads!r}, expected a number each")
    schema = OmegaConf.structured(attention_schema(options.get("kind")))
    try:
        whole = OmegaConf.merge(schema, options)
    except OmegaConfBaseException as error:
        raise ConfigError(f"attention.groups: found {options}: {error}") from error
    assert isinstance(whole, DictConfig)
    return pattern(whole), kv_heads


def encoder(config: DictConfig, attends: Pattern) -> EncoderConfig:
    """Group `model` and a pattern -> the encoder."""
    from core.model.encoder import EncoderConfig

    m = config.model
    if m.heads > 0 and m.dim % m.heads:
        raise ConfigError(f"model.dim={m.dim} must be a multiple of model.heads={m.heads}")
    return EncoderConfig(
        dim=m.dim,
        layers=m.layers,
        heads=m.heads,
        kv_heads=m.kv_heads,
        ffn=m.ffn,
        activation=m.activation,
        norm=m.norm,
        dropout=m.dropout,
        stochastic_depth=m.stochastic_depth,
        checkpoint=m.checkpoint,
        pattern=attends,
    )


def optimiser(node: DictConfig) -> OptimConfig:
    from core.training.lightning import OptimConfig

    return OptimConfig(lr=node.lr, weight_decay=node.weight_decay, warmup=node.warmup)


def members(node: DictConfig) -> int:
    """How many trainings are averaged."""
    if node.members < 1:
        raise ConfigError(f"trainer.members: found {node.members}, expected 1 or more")
    return node.members


def fitting(node: DictConfig) -> FitConfig:
    from core.training.fit import FitConfig

    names = FitConfig.__dataclass_fields__
    return FitConfig(**{name: node[name] for name in names})


def check_logger(node: DictConfig) -> None:
    """Whether what follows the loss can be had, before anything is read.

    Raises:
        ConfigError: an unknown kind, an extra that is not installed, or no address of an MLflow.
    """
    kinds = ("none", "csv", "tensorboard", "mlflow")
    if node.kind not in kinds:
        raise ConfigError(f"logger.kind: found {node.kind!r}, expected one of {', '.join(kinds)}")
    if node.kind in ("tensorboard", "mlflow") and importlib.util.find_spec(node.kind) is None:
        raise ConfigError(
            f"logger={node.kind}: it is not installed; install the extra: "
            f'pip install "longstrand[{node.kind}]"'
        )
    if node.kind == "mlflow":
        mlflow_client.check_uri(node.uri, "logger.uri")


def loggers(
    node: DictConfig, folder: Path, parameters: Mapping[str, Any] | None = None
) -> list[Any]:
    """What follows the loss during a training. MLflow is told `parameters` too."""
    check_logger(node)
    match node.kind:
        case "csv":
            from pytorch_lightning.loggers import CSVLogger

            return [CSVLogger(str(folder), name="", version="")]
        case "tensorboard":
            from pytorch_lightning.loggers import TensorBoardLogger

            return [TensorBoardLogger(str(folder), name="", version="")]
        case "mlflow":
            from pipelines.mlflow_logger import mlflow_logger

            return [mlflow_logger(node, folder, parameters or {})]
        case _:
            return []


def training(config: DictConfig) -> dict[str, Any]:
    """What a bundle says of its training, so that it can be repeated on other rows."""
    trainer = OmegaConf.to_container(config.trainer, resolve=True)
    return {"seed": config.seed, "trainer": trainer}


def parameters(config: DictConfig) -> dict[str, Any]:
    """What makes one training of a domain unlike another."""
    groups = ("model", "attention", "trainer")
    chosen = {name: OmegaConf.to_container(config[name], resolve=True) for name in groups}
    return {**chosen, "seed": config.seed}


def scored(
    task: Task, predictions: pl.DataFrame, calibration: Calibration, fold: str
) -> pl.DataFrame:
    """What a task's metrics read: its predictions with their calibrated score, what it decides by
    that, and fold."""
    import polars as pl

    score = calibration.apply(predictions["raw"].to_numpy())
    known = predictions.with_columns(pl.Series("score", score, dtype=pl.Float64))
    return task.decide(known, calibration).with_columns(pl.lit(fold).alias("fold"))


def distinct_rows(set_aside: pl.DataFrame) -> int:
    """How many rows were set aside; one may have several bad cells."""
    return set_aside.select("file", "row").unique().height


def tune_process(threads: int) -> None:
    """Limit torch to `threads`, 0 for its own choice but no more than a container is granted, and
    let freed memory be used again."""
    import torch

    if threads < 0:
        raise ConfigError(f"threads: found {threads}, expected 0 (torch's choice) or more")
    torch.set_num_threads(threads or min(torch.get_num_threads(), _granted()))
    keep_freed_memory()


def _granted() -> int:
    """Processors that this process may use at once. torch counts the machine's: with more threads
    than a container's share of them, most of its time would be spent waiting."""
    from joblib import cpu_count

    return cpu_count()
