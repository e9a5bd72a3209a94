"""A training followed in MLflow: one MLflow run for each folder of logs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipelines import mlflow_client

_FOLDER = "longstrand.folder"


def mlflow_logger(node: DictConfig, folder: Path, parameters: Mapping[str, Any]) -> Any:
    """Lightning's logger on the MLflow run of `folder`, which a resumed training goes on with.

    Raises:
        ConfigError: mlflow is not installed, or nothing answers at `logger.uri`.
    """
    client = mlflow_client.connect(node.uri)
    experiment = mlflow_client.experiment(client, node.uri, node.experiment)
    # A hash, because a filter has no way to quote every path.
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with mlflow_client.answers(node.uri):
        found = client.search_runs([experiment], f"tags.`{_FOLDER}` = '{key}'", max_results=1)

    from pytorch_lightning.loggers import MLFlowLogger

    logger = MLFlowLogger(
        experiment_name=node.experiment,
        tracking_uri=node.uri,
        run_name=f"{folder.parent.parent.name} {folder.name}",
        tags={_FOLDER: key},
        run_id=found[0].info.run_id if found else None,
    )
    if not found:
        logger.log_hyperparams(dict(parameters))
    return logger
