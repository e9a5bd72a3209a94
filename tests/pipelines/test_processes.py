"""Two processes of one training: one run folder, one summary, every row predicted once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl

from core.bundle import load_bundle
from tests.pipelines.conftest import SMALL, Outcome

# What torchrun does, for the price of one import of torch.
LAUNCHER = """
import os, runpy, sys
import pytorch_lightning
for rank in "01":
    if os.fork() == 0:
        os.environ.update(RANK=rank, LOCAL_RANK=rank)
        runpy.run_module("pipelines.train", run_name="__main__", alter_sys=True)
        sys.exit(0)
codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in "01"]
sys.exit(max(codes))
"""


def _two(project: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PYTHONPATH": str(project),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "two",
    }
    return subprocess.run(
        [sys.executable, "-c", LAUNCHER, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_first_process_alone_writes_and_speaks(
    project: Path, toy_run: Path, tmp_path: Path
) -> None:
    done = _two(project, tmp_path, "domain=toy", *SMALL, "trainer.strategy=fsdp")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    summary = json.loads(line)
    runs = [p for p in (tmp_path / "runs/toy").iterdir() if not p.is_symlink()]
    assert [p.name for p in runs] == ["two"]
    one = {p.relative_to(toy_run) for p in toy_run.rglob("*")}
    assert {p.relative_to(runs[0]) for p in runs[0].rglob("*")} == one
    predictions = pl.read_parquet(runs[0] / "predictions.parquet")
    expected = pl.read_parquet(toy_run / "predictions.parquet")
    assert predictions["row"].to_list() == expected["row"].to_list()
    a, b = (
        {n: t.shape for n, t in load_bundle(path / "bundle").state_dict().items()}
        for path in (runs[0], toy_run)
    )
    assert a == b
    assert summary["status"] == "done"


def test_an_error_of_the_first_process_is_that_of_all(project: Path, tmp_path: Path) -> None:
    (tmp_path / "runs/toy/two").mkdir(parents=True)
    done = _two(project, tmp_path, "domain=toy", *SMALL, "trainer.strategy=ddp")
    assert done.returncode == 2
    assert done.stderr.count("exists already") == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_several_processes_need_a_strategy_and_a_pattern(
    command: Callable[..., Outcome], project: Path, tmp_path: Path
) -> None:
    alone = command("train", "domain=toy", "trainer=ddp")
    assert alone.code == 2
    assert "torchrun --standalone" in alone.stderr
    chosen = _two(
        project, tmp_path, "domain=toy", "trainer=ddp", "attention=auto",
        "attention.budget.share_of_dense=0.5",
    )  # fmt: skip
    assert chosen.returncode == 2
    assert "choose with one process" in chosen.stderr
