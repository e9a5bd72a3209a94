"""A sweep that was killed ends as one that was not."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import ConfigError
from pipelines.search_space import distributions
from pipelines.study import Study
from tests.pipelines.conftest import SMALL

SPACE = {
    "metric": "mean_absolute_error",
    "folds": None,
    "space": {
        # The second one diverges without clipping.
        "trainer.lr": {"choices": [0.01, 1e30]},
        "model.dropout": {"low": 0.0, "high": 0.4},
        "model.layers": {"low": 1, "high": 2},
    },
}
TRIALS, STEPS = 4, 12


def _command(folder: Path, name: str) -> list[str]:
    own = ("sweep=mine", f"n_trials={TRIALS}", f"study={name}.db", "trainer.checkpoint_every=4")
    rest = ("trainer.clip=0", "trainer.average=0.5", "logger=none", "--config-dir", str(folder))
    return ["sweep", "domain=toy", *SMALL, *own, *rest]


@pytest.fixture(scope="module")
def swept(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An unbroken sweep; one killed twice; what both printed."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "sweep").mkdir()
    text = "defaults: [/schema/sweep@_here_]\n" + yaml.safe_dump(SPACE)
    (folder / "sweep" / "mine.yaml").write_text(text)
    broken = _command(folder, "broken")
    jobs = [
        (_command(folder, "whole"), {}, "whole.out"),
        (broken, {"KILL_AT": "10"}, "killed.out"),
        (broken, {"KILL_AT": "17"}, "killed.out"),
        (broken, {}, "broken.out"),
        (broken, {}, "again.out"),
        ([*broken, "seed=1"], {}, "other.out"),
    ]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "forks.py"), json.dumps(jobs)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    said = {p.stem: p.read_text() for p in folder.glob("*.out")}
    return {"folder": folder, "codes": json.loads(done.stdout), "said": said, "log": done.stderr}


def _results(swept: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return json.loads((swept["folder"] / name / "results.json").read_text())


def test_a_sweep_that_was_killed_has_the_trials_of_one_that_was_not(swept: dict[str, Any]) -> None:
    killed = -signal.SIGKILL
    assert swept["codes"] == [0, killed, killed, 0, 0, 2], swept["log"]
    whole = _results(swept, "whole")
    assert len(whole) == TRIALS
    assert _results(swept, "broken") == whole
    a, b = (json.loads(swept["said"][name]) for name in ("whole", "broken"))
    assert a["best"] == b["best"]
    assert swept["said"]["killed"] == ""


def test_a_trial_that_fails_by_itself_is_counted_and_others_go_on(swept: dict[str, Any]) -> None:
    summary = json.loads(swept["said"]["whole"])
    lost = [r for r in _results(swept, "whole") if r["value"] is None]
    assert 0 < len(lost) < TRIALS
    assert {r["values"]["trainer.lr"] for r in lost} == {1e30}
    assert summary["failed"] == len(lost)
    best = min(r["value"] for r in _results(swept, "whole") if r["value"] is not None)
    assert summary["best"]["value"] == best


def test_the_summary_says_how_to_train_with_the_best_settings(swept: dict[str, Any]) -> None:
    summary = json.loads(swept["said"]["whole"])
    words = shlex.split(summary["again"])
    assert words[:3] == ["python", "-m", "pipelines.train"]
    assert {"domain=toy", "trainer.lr=0.01", "trainer.clip=0"} <= set(words)
    assert not [w for w in words if w.startswith(("sweep", "n_trials", "study"))]


def test_a_finished_sweep_changes_nothing_and_another_one_is_refused(swept: dict[str, Any]) -> None:
    finished, again = (json.loads(swept["said"][name]) for name in ("broken", "again"))
    assert {**finished, "seconds": 0} == {**again, "seconds": 0}
    other = json.loads(swept["said"]["other"])
    assert "holds a sweep with other settings" in other["error"]


def test_trials_keep_their_settings_and_no_checkpoints(swept: dict[str, Any]) -> None:
    for result in _results(swept, "whole"):
        folder = swept["folder"] / "whole" / result["folder"]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["model"]["dropout"] == result["values"]["model.dropout"]
        assert not (folder / "checkpoints").exists() or result["value"] is None


def test_a_trial_killed_between_its_marks_runs_once(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    space = distributions(OmegaConf.create({"trainer.lr": {"low": 0.1, "high": 1.0}}))
    first = Study(tmp_path / "s.db", "minimize", {}, 3)
    asked = first.ask(space)
    second = Study(tmp_path / "s.db", "minimize", {}, 3)
    assert second.take_up() == 1
    # As if it was killed here, before the trial was asked for again.
    third = Study(tmp_path / "s.db", "minimize", {}, 3)
    assert third.take_up() == 0
    assert third.ask(space) == asked
    third.tell(0.5)
    assert [r.folder for r in third.results()] == [asked.folder]
    assert third.ask(space).folder == "trial-0001"


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "found nothing"),
        ({"domain.data.path": {"choices": ["a"]}}, "must not change"),
        ({"trainer.lr": {"low": 1}}, "expected {choices"),
        ({"trainer.lr": {"low": 2.0, "high": 1.0}}, "sweep.space.trainer.lr"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: dict[str, Any], said: str) -> None:
    from omegaconf import OmegaConf

    with pytest.raises(ConfigError, match=said):
        distributions(OmegaConf.create(space))


def test_a_trial_is_one_training() -> None:
    from omegaconf import OmegaConf

    from pipelines.sweep import sweep

    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match="found 2, expected 1"):
        sweep(OmegaConf.create({"trainer": {"strategy": "single", "members": 2}}))
