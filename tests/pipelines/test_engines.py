"""Engines: the same files from any number of workers, and none lost when one dies."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from core.contract import Partition
from core.errors import ConfigError, DataContractError, LongstrandError
from pipelines.engines import open_pool
from pipelines.engines.pool import score_parts

PARTS = [
    *(Partition(f"chained-{i}", i, True) for i in range(3)),
    *(Partition(f"free-{i}", 3 + i, False) for i in range(4)),
]


@dataclass(frozen=True)
class FakeJob:
    """Workers write what they were asked into `folder`; the partition `dies` kills its worker the
    first time, and `fails` is refused."""

    folder: Path
    dies: str = ""
    fails: str = ""
    threads: int = 1

    def open(self) -> FakeWorker:
        return FakeWorker(self)


class FakeWorker:
    def __init__(self, job: FakeJob) -> None:
        self.job = job

    def score(self, part: Partition, before: Partition | None) -> int:
        died = self.job.folder / "died"
        if part.key == self.job.dies and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if part.key == self.job.fails:
            raise DataContractError("row 7: found nothing")
        came = before is not None and (self.job.folder / before.key).read_text()
        (self.job.folder / part.key).write_text(f"{came or 'start'} {part.key}")
        return part.order


def _run(job: FakeJob, done: set[str], **engine: Any) -> list[str]:
    settings = OmegaConf.create({"kind": "local", "workers": 1, "address": None, **engine})
    with open_pool(settings, job, job.open()) as pool:
        return sorted(part.key for part, _ in score_parts(PARTS, done, pool))


def _written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != "died"}


EXPECTED = {
    "chained-0": "start chained-0",
    "chained-1": "start chained-0 chained-1",
    "chained-2": "start chained-0 chained-1 chained-2",
    **{f"free-{i}": f"start free-{i}" for i in range(4)},
}


@pytest.mark.parametrize("workers", [1, 2])
def test_chains_keep_their_order_whoever_scores(tmp_path: Path, workers: int) -> None:
    assert _run(FakeJob(tmp_path), set(), workers=workers) == sorted(EXPECTED)
    assert _written(tmp_path) == EXPECTED


def test_after_a_killed_worker_the_rest_is_scored_and_nothing_twice(tmp_path: Path) -> None:
    job = FakeJob(tmp_path, dies="chained-1")
    with pytest.raises(LongstrandError, match="ended before its partition was scored"):
        _run(job, set(), workers=2)
    done = set(_written(tmp_path))
    assert "chained-0" in done and "chained-1" not in done
    assert not done & set(_run(job, done, workers=2))
    assert _written(tmp_path) == EXPECTED


def test_what_a_worker_refuses_is_said_as_it_says_it(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="row 7: found nothing"):
        _run(FakeJob(tmp_path, fails="free-2"), set(), workers=2)


def test_ray_restarts_a_killed_worker_and_goes_on_with_what_is_left(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs the extra: pip install "longstrand[ray]"')
    job = FakeJob(tmp_path, dies="chained-2")
    done = set(_run(FakeJob(tmp_path, fails="none"), {p.key for p in PARTS[1:]}))
    handler = signal.getsignal(signal.SIGTERM)
    assert not done & set(_run(job, done, kind="ray", workers=2))
    assert (tmp_path / "died").exists()
    assert _written(tmp_path) == EXPECTED
    assert signal.getsignal(signal.SIGTERM) == handler


def test_unusable_engines_are_refused(tmp_path: Path) -> None:
    for engine, said in (
        ({"workers": 0}, "engine.workers: found 0"),
        ({"address": "auto"}, "engine=local, which would ignore it"),
        ({"kind": "spark"}, "expected local or ray"),
    ):
        with pytest.raises(ConfigError, match=said):
            _run(FakeJob(tmp_path), set(), **engine)
