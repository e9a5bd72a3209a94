"""What `benchmarks.context` is asked: an experiment's configuration, and how much data it has."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from omegaconf import DictConfig

from benchmarks.configured import training_config
from core.contract import Fold, Source
from core.errors import ConfigError
from domains.genomics.genome_source import GenomeSource
from domains.genomics.source import LabelledSource
from domains.genomics.stretch import runs_of
from pipelines import build
from pipelines.domains import load_domain

TIMED = 20_000  # alleles or bases


@dataclass(frozen=True)
class Data:
    """What all rows share.

    Attributes:
        source: opened for training.
        folds: trainings, the refit on all groups counted.
        longest: bases that a window can have.
        sites: positions that are judged, over all folds.
        timed: rows of the first fold's test whose prediction is timed, about `TIMED`.
        count: alleles, or of mlm bases, of these; `unit` says which.
    """

    source: Source
    folds: int
    longest: int
    sites: int
    timed: pl.Series
    count: int
    unit: str


def composed(experiment: str, overrides: str, beside: Sequence[str]) -> DictConfig:
    """The configuration of a training of genomics.

    Raises:
        ConfigError: it doesn't compose, its data is not there, or windows make no difference to it.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pipelines.train import check_needs

    chosen = [f"experiment={experiment}"] if experiment else []
    try:
        given = ["domain=genomics", "logger=none", *chosen, *beside, *shlex.split(overrides)]
        config = training_config(given)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"experiment, overrides: {str(error).splitlines()[0]}") from error
    check_needs(config.needs)
    if config.domain.name != "genomics":
        raise ConfigError(f"domain: found {config.domain.name}, expected genomics")
    if config.attention.kind in ("auto", "dense"):
        kind = config.attention.kind
        raise ConfigError(f"attention: found {kind}, expected a sparse pattern to compare with it")
    facts = config.domain.facts
    if facts.hidden and not facts.encoder:
        raise ConfigError(
            "domain.facts.encoder: found 0, which leaves the encoder out, so that a window makes "
            "no difference; say overrides=domain.facts.encoder=1"
        )
    return config


def opened(config: DictConfig, scratch: Path) -> Data:
    """Reads the data once; a simulation is written into `scratch`."""
    from pipelines.train import with_data

    domain = load_domain("genomics")
    settings = with_data(domain, build.domain_config(config.domain), scratch)
    source = domain.open(settings, "train")
    folds = domain.task(settings).folds(source)
    if isinstance(source, GenomeSource):
        return _of_genome(source, folds)
    assert isinstance(source, LabelledSource)
    contigs = source.variants["chrom"].unique()
    longest = max(len(source.reference.sequence(name)) for name in contigs)
    sites = sum(source.select(fold.test).select("chrom", "pos").n_unique() for fold in folds)
    timed = folds[0].test.head(TIMED)
    return Data(source, len(folds), longest, sites, timed, len(timed), "alleles")


def _of_genome(source: GenomeSource, folds: Sequence[Fold]) -> Data:
    """Of the one fold of the task mlm."""
    runs, test = runs_of(source.select(folds[0].learned)), source.select(folds[0].test)
    ends = (test["end"] - test["pos"]).cum_sum()
    rows = max(1, int((ends <= TIMED).sum()))
    longest, timed = max(run.end - run.start for run in runs), test["row"].head(rows)
    return Data(source, len(folds), longest, int(ends[-1]), timed, int(ends[rows - 1]), "bases")
