"""A copy of the project with a third domain in it, and a way to run its commands."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ("model.dim=8", "model.layers=1", "model.heads=2", "attention.radius=2", "trainer.steps=12")


@dataclass(frozen=True)
class Outcome:
    code: int
    summary: dict[str, Any]
    stderr: str
    stdout: str


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """core, domains, pipelines and conf, plus one folder and one file: the toy domain."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("core", "domains", "pipelines", "conf"):
        shutil.copytree(ROOT / name, copy / name)
    toy = ROOT / "tests" / "pipelines" / "toy"
    shutil.copytree(toy, copy / "domains" / "toy", ignore=shutil.ignore_patterns("*.yaml"))
    shutil.copy(toy / "toy.yaml", copy / "conf" / "domain" / "toy.yaml")
    return copy


def run_command(
    project: Path, folder: Path, name: str, *arguments: str, **environment: str
) -> Outcome:
    """`python -m pipelines.NAME ...` in `folder`, with the code of `project`."""
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{name}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = done.stdout.strip().splitlines()
    try:
        summary = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        summary = {}
    return Outcome(done.returncode, summary, done.stderr, done.stdout)


@pytest.fixture
def command(project: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a pipeline in an empty folder."""
    return functools.partial(run_command, project, tmp_path)


@pytest.fixture(scope="session")
def toy_run(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished toy training."""
    folder = tmp_path_factory.mktemp("toy")
    outcome = run_command(project, folder, "train", "domain=toy", *SMALL)
    assert outcome.code == 0, outcome.stderr
    return folder / outcome.summary["run"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite file that MLflow has migrated, which takes it seconds."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from pipelines import mlflow_client

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    mlflow_client.connect(f"sqlite:///{path}")
    return path
