"""A small simulated genome, real data where it is held, and a network small enough to train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from domains.genomics import domain
from domains.genomics.config import GenomicsConfig, GenomicsData, SimulationConfig

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
