"""From conf/registry/*.yaml to a registry, and from `bundle=` to a folder."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from core.errors import ConfigError
from pipelines.registry.registry import Registry


def open_registry(node: DictConfig) -> Registry:
    """Group `registry` -> the registry it names.

    Raises:
        ConfigError: another kind, or an MLflow that is not installed or does not answer.
    """
    if node.kind == "folder":
        from pipelines.registry.folder import FolderStore

        return Registry(FolderStore(Path(node.root)))
    if node.kind == "mlflow":
        from pipelines.registry.mlflow_store import MlflowStore

        return Registry(MlflowStore(node.uri, Path(node.root)))
    raise ConfigError(f"registry.kind: found {node.kind!r}, expected folder or mlflow")


def bundle_folder(named: str, registry: DictConfig) -> Path:
    """What `bundle=` names: a folder, or NAME@ALIAS or NAME@v0003 of the registry. A folder whose
    own name holds an @ is written with a slash: ./a@b.

    Raises:
        ConfigError: no such model, alias or version.
    """
    if "@" not in named or "/" in named:
        return Path(named)
    return open_registry(registry).resolve(named).path
