"""Trainings of both domains' simulators that take milliseconds a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.attention import Window
from core.model.encoder import EncoderConfig
from core.training.fit import FitConfig, fit
from core.training.lightning import OptimConfig
from core.training.loader import StepLoader
from core.training.module import SequenceModule


@dataclass(frozen=True)
class Tiny:
    """One training of one domain; `tokenizer` is fitted and batches need no polars, so that a
    forked process can run it."""

    task: Any
    tokenizer: Any
    encoder: EncoderConfig
    batch_at: Callable[..., Any]

    def fit(
        self, config: FitConfig, folder: Path, change: Callable[[Any], None] = lambda _: None
    ) -> SequenceModule:
        """Train; `change` sees the module first."""
        torch.manual_seed(0)
        module = self.task.module(self.tokenizer, self.encoder)
        change(module)
        loader = StepLoader(self.batch_at, config.steps)
        return fit(module, loader, OptimConfig(), config, folder, seed=0)


def finance(folder: Path, dropout: float) -> Tiny:
    """Sampled targets, an odd number a batch."""
    from domains.finance import domain
    from domains.finance.config import FinanceConfig, FinanceData, Split, View

    config = FinanceConfig(
        data=FinanceData(customers=40, terminals=60, days=45, seed=3),
        split=Split("2024-01-30", "2024-02-06", "2024-02-14", 3),
        views=[View(["customer"], 12), View(["terminal"], 9)],
        batch_size=17,
        forget=dropout,
    )
    return _tiny(domain, config, folder, {"dropout": dropout})


def genomics(folder: Path, dropout: float) -> Tiny:
    """Windows with differing numbers of labels."""
    from domains.genomics import domain
    from domains.genomics.config import GenomicsConfig
    from domains.genomics.data_config import GenomicsData, SimulationConfig

    config = GenomicsConfig(
        data=GenomicsData(simulation=SimulationConfig(contigs=3, length=4000, variants=3000)),
        window=64,
        batch_size=3,
        noise=dropout,
        strand="plus",  # a drawn strand is noise, too
    )
    return _tiny(domain, config, folder, {"dropout": dropout, "stochastic_depth": dropout})


DOMAINS = {"finance": finance, "genomics": genomics}


def _tiny(domain: Any, config: Any, folder: Path, noise: dict[str, float]) -> Tiny:
    domain.simulate(config, folder / "simulated")
    config = domain.simulated(config, folder / "simulated")
    source, task = domain.open(config, "train"), domain.task(config)
    fold = task.folds(source)[0]
    tokenizer = task.fit_tokenizer(source, fold.train)
    encoder = EncoderConfig(dim=16, layers=2, heads=4, ffn=2, pattern=Window(8), **noise)
    loader = task.loader(source, tokenizer, fold.train, 0, 1)
    return Tiny(task, tokenizer, encoder, loader.batch_at)
