"""A small simulated genome, real data where it is held, and a network small enough to train."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData, SimulationConfig

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def genomics_data() -> Path:
    """Real data: LONGSTRAND_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("LONGSTRAND_DATA", ROOT.parent / "shared" / "data")) / "genomics"
    if not folder.is_dir():
        pytest.skip(f"real data not held here: {folder}; set LONGSTRAND_DATA")
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> GenomicsConfig:
    """A config that reads a simulated genome of three contigs of 4 kb."""
    out = tmp_path_factory.mktemp("simulated")
    data = GenomicsData(simulation=SimulationConfig(contigs=3, length=4000, variants=3000))
    config = GenomicsConfig(data=data, window=64, batch_size=2)
    domain.simulate(config, out)
    return domain.simulated(config, out)


@pytest.fixture(scope="session")
def encoder() -> Any:
    """Two layers of radius 8: reach 16 + 3 (stem) + 2 (head)."""
    from core.attention import Window
    from core.model.encoder import EncoderConfig

    return EncoderConfig(dim=16, layers=2, heads=2, dropout=0.1, pattern=Window(8))


@pytest.fixture(scope="session")
def bundle(
    simulated: GenomicsConfig, encoder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle trained for a few steps on the simulated genome."""
    return trained_bundle(simulated, encoder, tmp_path_factory.mktemp("trained") / "bundle")


@pytest.fixture(scope="session")
def bare_bundle(
    simulated: GenomicsConfig, encoder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`bundle`, trained without the annotation."""
    bare = replace(simulated, data=replace(simulated.data, annotation=None))
    return trained_bundle(bare, encoder, tmp_path_factory.mktemp("bare") / "bundle")


def trained_bundle(config: GenomicsConfig, encoder: Any, path: Path) -> Path:
    """A bundle of four steps of training, written to `path`."""
    import torch

    from core.bundle import write_bundle
    from pipelines.train import plain

    source, task = domain.open(config, "train"), domain.task(config)
    last = task.folds(source)[-1]
    tokenizer = task.fit_tokenizer(source, last.train)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for batch in task.loader(source, tokenizer, last.train, 0, 4):
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()
    write_bundle(
        path,
        manifest={
            "domain": "genomics",
            "task": task.name,
            "created": "2026-01-01T00:00:00",
            "fingerprint": source.fingerprint(),
            "label_intervals": task.label_intervals(source, last),
            "config": plain(config),
        },
        encoder=encoder,
        weights=module.state_dict(),
        tokenizer=tokenizer.to_dict(),
        calibration=task.calibrate(
            source.variants.with_columns(pl.col("ref", "alt").cast(pl.String), raw="label")
        ),
        metrics=[],
        reference=[],
        model_card="a small model for tests\n",
    )
    return path


def rebundled(bundle: Path, path: Path, **changed: Any) -> Path:
    """The bundle once more at `path`, with other `weights`, another `tokenizer` or `config`."""
    from core.bundle import load_bundle, write_bundle

    kept = load_bundle(bundle)
    names = ("domain", "task", "created", "fingerprint", "label_intervals", "config")
    told = {"weights": kept.state_dict(), "tokenizer": kept.tokenizer}
    told |= {name: getattr(kept, name) for name in names}
    manifest = told | changed
    weights, tokenizer = manifest.pop("weights"), manifest.pop("tokenizer")
    write_bundle(
        path,
        manifest=manifest,
        encoder=kept.encoder,
        weights=weights,
        tokenizer=tokenizer,
        calibration=kept.calibration,
        metrics=[],
        reference=[],
        model_card="a small model for tests\n",
    )
    return path


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of 20 resamplings, for tests of what is measured and not of how surely."""
    from domains.genomics import class_figures, figures

    for module in (class_figures, figures):
        monkeypatch.setattr(module, "RESAMPLES", 20)


@functools.cache
def _score_config() -> Any:
    """What `python -m pipelines.score` composes before any argument."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from pipelines.cli import CONF
    from pipelines.schema import register_schemas

    register_schemas()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("score")
    OmegaConf.set_struct(config, False)  # `config.` takes any key; the domain checks them
    return config


def run_score(bundle: Path, input: Path, output: Path, **scoring: Any) -> dict[str, Any]:
    """`python -m pipelines.score` in this process.

    Args:
        scoring: the domain's config on top of the bundle's: `data`, `scoring`.

    Returns:
        The summary, or exit_code and error of a refusal; any other error is raised.
    """
    from omegaconf import OmegaConf

    from core.errors import LongstrandError
    from pipelines.cli import exit_code
    from pipelines.score import score

    config = OmegaConf.merge(
        _score_config(),
        {"bundle": str(bundle), "input": str(input), "output": str(output), "config": scoring},
    )
    try:
        return score(config)  # type: ignore[arg-type]
    except (LongstrandError, OSError) as error:
        return {"exit_code": exit_code(error), "error": str(error)}
