"""What `benchmarks.variants` is asked: data, how it is held out, and the features of its trees."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from omegaconf import DictConfig

from benchmarks import variant_trees as trees
from benchmarks.configured import training_config
from benchmarks.paired import DRAWS
from core.errors import ConfigError
from domains.genomics.effect import EffectTask
from domains.genomics.source import LabelledSource

CONF = Path(__file__).resolve().parent.parent / "conf"


@dataclass(frozen=True)
class Protocol:
    """One way to hold out one data set.

    Attributes:
        overrides: of `pipelines.train`, beside domain=genomics.
        features: float [n, columns] of the trees, for rows of the source.
        draws: of an interval's bootstrap.
    """

    data: str
    name: str
    overrides: tuple[str, ...]
    features: Callable[[LabelledSource, pl.DataFrame], np.ndarray]
    draws: int = DRAWS


def viral_features(source: LabelledSource, rows: pl.DataFrame) -> np.ndarray:
    """Codon, amino acids and their neighbours, bases up to two away."""
    reference = source.reference
    parts = [trees.coding_features(reference, rows), trees.base_features(reference, rows, 2)]
    return np.column_stack(parts)


def spliced_features(source: LabelledSource, rows: pl.DataFrame) -> np.ndarray:
    """Consequence, amino acids, exon border, bases up to three away, and tracks if any."""
    reference = source.reference
    return np.column_stack(
        [
            trees.consequence_features(source, rows),
            trees.exchange_features(reference, rows),
            trees.border_features(reference, rows),
            trees.base_features(reference, rows, 3),
            trees.track_features(reference, rows),
        ]
    )


_SARS2, _BRCA1 = "experiment=sars2", "experiment=brca1"
DATA = (
    Protocol("sars2", "blocks5", (_SARS2,), viral_features),
    Protocol("sars2", "contiguous5", (_SARS2, "domain.data.split.kind=stretches"), viral_features),
    Protocol("brca1", "exon", (_BRCA1, "~domain.data.tracks.phylop"), spliced_features),
    Protocol("brca1", "exon+phylop", (_BRCA1,), spliced_features),
)
QUICK = Protocol(
    "simulated",
    "contig",
    (
        "domain.data.simulation={contigs: 3, length: 4000, variants: 900}",
        "domain.window=64",
        "model={dim: 16, layers: 1, heads: 2}",
        "trainer.steps=2",
        "logger=none",
    ),
    viral_features,
    draws=10,
)


def opened(protocol: Protocol, threads: int) -> tuple[DictConfig, LabelledSource, EffectTask]:
    """The composed configuration of a training, its source and its task.

    Raises:
        ConfigError: the data is not held where the experiment looks for it.
    """
    from domains.genomics import domain
    from pipelines import build

    config = training_config(["domain=genomics", f"threads={threads}", *protocol.overrides])
    if config.needs is not None and not Path(config.needs).exists():
        raise ConfigError(
            f"data: found no {protocol.data} at {config.needs}; set LONGSTRAND_DATA to the folder "
            "that holds it (docs/data.md)"
        )
    build.tune_process(threads)
    settings = build.domain_config(config.domain)
    if settings.data.source == "simulated":
        out = Path(tempfile.mkdtemp())
        domain.simulate(settings, out)
        settings = domain.simulated(settings, out)
    source = domain.open(settings, "train")
    task = domain.task(settings)
    assert isinstance(source, LabelledSource) and isinstance(task, EffectTask)
    return config, source, task
