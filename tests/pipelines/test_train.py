"""A run: its folder, its bundle, going on after a kill, the same with a third domain."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.pipelines.conftest import SMALL, Outcome

Run = Callable[..., Outcome]
TRAIN = ("domain=toy", *SMALL)


def _journal(path: Path) -> list[list]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_third_domain_needs_one_folder_and_one_file(toy_run: Path) -> None:
    names = {p.name for p in toy_run.iterdir()}
    expected = {"bundle", "metrics.json", "predictions.parquet", "report.html", "config.yaml"}
    assert expected | {"checkpoints", "train.log"} <= names
    assert (toy_run.parent / "latest").resolve() == toy_run.resolve()
    models = {row["model"] for row in json.loads((toy_run / "metrics.json").read_text())}
    assert models == {"ours", "zero"}
    assert pl.read_parquet(toy_run / "predictions.parquet")["row"].n_unique() == 30


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_goes_on_with_the_same_batches_and_the_same_weights(
    command: Run, project: Path, tmp_path: Path, kill: signal.Signals
) -> None:
    arguments = (
        *TRAIN,
        "trainer.steps=60",
        "trainer.checkpoint_every=7",
        "trainer.average=0.9",
        "model.dropout=0.3",
    )
    whole = command("train", *arguments, TOY_JOURNAL=str(tmp_path / "whole"), LONGSTRAND_RUNS="a")
    assert whole.code == 0, whole.stderr

    broken = tmp_path / "broken"
    environment = {**os.environ, "PYTHONPATH": str(project), "LONGSTRAND_RUNS": "b"}
    again = [sys.executable, "-m", "pipelines.train", *arguments, "resume=auto"]
    process = subprocess.Popen(
        again,
        cwd=tmp_path,
        env={**environment, "TOY_JOURNAL": str(broken)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_with_ctrl_c,
    )
    # The first fold takes 60 steps: stop in the middle of the second.
    while process.poll() is None and (not broken.exists() or len(_journal_lines(broken)) < 85):
        time.sleep(0.005)
    process.send_signal(kill)
    code = process.wait()
    assert code == (-signal.SIGKILL if kill == signal.SIGKILL else 143)

    rest = command(
        "train", *arguments, "resume=auto", TOY_JOURNAL=str(tmp_path / "rest"), LONGSTRAND_RUNS="b"
    )
    assert rest.code == 0, rest.stderr
    assert rest.summary["resumed"]
    seen = {(i // 60, step): rows for i, (step, rows) in enumerate(_journal(tmp_path / "whole"))}
    resumed = _journal(tmp_path / "rest")
    assert 0 < len(resumed) < 60
    assert [step for step, _ in resumed] == list(range(resumed[0][0], 60))
    assert all(seen[1, step] == rows for step, rows in resumed)
    weights = "bundle/model.safetensors"
    a, b = (tmp_path / o.summary["run"] / weights for o in (whole, rest))
    assert a.read_bytes() == b.read_bytes()


def _with_ctrl_c() -> None:
    """As in a terminal, even where these tests run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _journal_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_resuming_a_finished_run_is_refused_with_a_sentence(command: Run, toy_run: Path) -> None:
    again = command("train", *TRAIN, f"resume={toy_run}")
    assert again.code == 2
    assert "is finished" in again.stderr
    other = command("train", *TRAIN, "seed=4", f"resume={toy_run}")
    assert other.code == 2
    assert "another configuration" in other.stderr


def test_a_run_folder_is_held_by_one_process(command: Run, toy_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(toy_run, tmp_path / "runs/toy/held")
    (copy / "report.html").unlink()
    with (copy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = command("train", *TRAIN, "resume=auto")
    assert outcome.code == 75
    assert "another process is training" in outcome.summary["error"]


def test_a_resumed_run_whose_data_has_changed_starts_anew(
    command: Run, toy_run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(toy_run, tmp_path / "runs/toy/old")
    (copy / "report.html").unlink()
    data = copy / "simulated" / "toy.csv"
    data.write_text(data.read_text().rsplit("\n", 2)[0] + "\n")
    refused = command("train", *TRAIN, f"resume={copy}")
    assert refused.code == 2
    assert "the data has changed" in refused.stderr
    (copy / "abandoned").unlink()
    anew = command("train", *TRAIN, "resume=auto")
    assert anew.code == 0, anew.stderr
    assert not anew.summary["resumed"]
    assert (copy / "abandoned").exists()


def test_a_run_id_names_one_run(command: Run) -> None:
    first = command("train", *TRAIN, "trainer.steps=2", LONGSTRAND_RUN_ID="mine")
    assert first.code == 0, first.stderr
    again = command("train", *TRAIN, "trainer.steps=3", LONGSTRAND_RUN_ID="mine")
    assert again.code == 2
    assert "exists already" in again.stderr


def test_a_diverging_training_is_no_success(command: Run, tmp_path: Path) -> None:
    outcome = command("train", *TRAIN, "trainer.lr=1e30", "trainer.clip=0")
    assert outcome.code == 1
    assert "training diverged" in outcome.summary["error"]
    assert not (tmp_path / "runs/toy/latest").exists()


def test_multirun_jobs_have_folders_of_their_own(command: Run, tmp_path: Path) -> None:
    outcome = command("train", *TRAIN, "--multirun", "seed=1,2", "trainer.steps=2")
    assert outcome.code == 0, outcome.stderr
    runs = [p for p in (tmp_path / "runs/toy").iterdir() if not p.is_symlink()]
    assert len(runs) == 2
    assert not (tmp_path / "multirun").exists()


def test_the_dense_twin_is_one_word_away(command: Run) -> None:
    outcome = command("train", "domain=toy", "attention=dense", "trainer=debug")
    assert outcome.code == 0, outcome.stderr
    assert len(outcome.stdout.strip().splitlines()) == 1


def test_a_bundle_that_has_learned_from_test_rows_is_no_beginning(
    command: Run, toy_run: Path
) -> None:
    seen = command("train", *TRAIN, f"init={toy_run / 'bundle'}")
    assert seen.code == 2
    assert "has learned from 30 of the 30 test rows of fold even" in seen.stderr
    nothing = command("train", *TRAIN, "init=nowhere")
    assert (nothing.code, "nowhere" in nothing.stderr) == (2, True)
