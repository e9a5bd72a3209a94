"""A small simulated town and an untrained model of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from core.attention.patterns import Window
from core.calibration import Calibration
from core.model.encoder import EncoderConfig
from domains.finance import domain
from domains.finance.config import FinanceConfig, FinanceData, Split, View

ENCODER = EncoderConfig(dim=16, layers=2, heads=4, ffn=2, dropout=0.0, pattern=Window(64))
VIEWS = [View(["customer"], 12), View(["terminal"], 9), View([], 6, labels=False)]


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """45 days of 40 customers; data already written."""
    config = FinanceConfig(
        data=FinanceData(customers=40, terminals=60, days=45, seed=3),
        split=Split("2024-01-30", "2024-02-06", "2024-02-14", 3),
        views=VIEWS,
        batch_size=16,
    )
    out = tmp_path_factory.mktemp("simulated")
    domain.simulate(config, out)
    return domain.simulated(config, out)


@pytest.fixture(scope="session")
def source(config):
    return domain.open(config, "train")


@pytest.fixture(scope="session")
def task(config):
    return domain.task(config)


@pytest.fixture(scope="session")
def fold(task, source):
    return task.folds(source)[0]


@pytest.fixture(scope="session")
def tokenizer(task, source, fold):
    return task.fit_tokenizer(source, fold.train)


@pytest.fixture(scope="session")
def module(task, tokenizer):
    torch.manual_seed(0)
    return task.module(tokenizer, ENCODER).eval()


@pytest.fixture(scope="session")
def bundle(config, tokenizer, module):
    return SimpleNamespace(
        config={},
        encoder=ENCODER,
        tokenizer=tokenizer.to_dict(),
        calibration=Calibration("platt", 0.9, -0.1),
        version="0123456789ab",
        task="fraud",
        state_dict=module.state_dict,
    )


@pytest.fixture
def lesson(task, source, tmp_path):
    """(fold, name of a folder, groups of the trainer) -> a short training."""
    from pipelines.learn import Lesson
    from pipelines.schema import LoggerSchema, TrainerSchema

    def make(fold, name: str, seed: int = 0, **options):
        trainer = TrainerSchema(
            steps=6, accelerator="cpu", average=0.9, checkpoint_every=2, **options
        )
        groups = {"trainer": trainer, "logger": LoggerSchema("none"), "model": {}, "attention": {}}
        config, folder = OmegaConf.create({**groups, "seed": seed}), tmp_path / name
        return Lesson(config, source, task, fold, ENCODER, seed, folder, folder / "logs")

    return make


@pytest.fixture
def scorer_of(config, bundle):
    """(input, history) -> FraudScorer."""

    def make(input: Path, history: Path | None = None):
        source = domain.open(config, "score", input=input, history=history)
        return domain.task(config).scorer(bundle, source)

    return make


@pytest.fixture
def score_file(scorer_of):
    """(input, output, history) -> Summary, the way pipelines do it, by a worker a partition."""

    def run(input: Path, output: Path, history: Path | None = None):
        first = scorer_of(input, history)
        first.check(output)
        with tempfile.TemporaryDirectory() as work:
            frames = {}
            for part in reversed(first.prepare(Path(work))):
                worker = scorer_of(input, history)
                worker.prepare(Path(work))
                frames[part.order], _ = worker.score(part, None)
            return first.write((frames[order] for order in sorted(frames)), output)

    return run


@pytest.fixture(scope="session")
def handbook():
    folder = Path(os.environ.get("LONGSTRAND_DATA", Path(__file__).parents[4] / "shared/data"))
    path = folder / "finance/handbook.parquet"
    if not path.is_file():
        pytest.skip(f"no Handbook data at {path}; set LONGSTRAND_DATA to the folder that holds it")
    return path
