"""The configuration of a training, as the command line composes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def training_config(overrides: Sequence[str]) -> Any:
    """Of `python -m pipelines.train` with these overrides."""
    from hydra import compose, initialize_config_dir

    from pipelines.cli import CONF
    from pipelines.schema import register_schemas

    register_schemas()
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("train", list(overrides))
