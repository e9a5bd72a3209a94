"""Where the real data is, and one thread a test process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two pytest workers share the machine; torch must not start a pool in each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("LONGSTRAND_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set LONGSTRAND_DATA to its folder")
    return DATA


@pytest.fixture(autouse=True)
def no_run_id_of_another_test() -> Iterator[None]:
    """A run in this process names itself in the environment, for its children."""
    yield
    os.environ.pop("LONGSTRAND_RUN_ID", None)
