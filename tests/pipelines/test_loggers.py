"""Each logger writes what a training logs, where its configuration says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from core.errors import ConfigError
from pipelines import build, mlflow_client


def _write(node: DictConfig, folder: Path, step: int) -> None:
    (logger,) = build.loggers(node, folder, {"trainer": {"lr": 0.1}, "seed": 3})
    logger.log_metrics({"loss": 0.5 / step}, step)
    logger.save()
    logger.finalize("success")


def test_csv_writes_a_table(tmp_path: Path) -> None:
    _write(OmegaConf.create({"kind": "csv"}), tmp_path / "logs" / "even", 1)
    assert (tmp_path / "logs/even/metrics.csv").read_text().split() == ["loss,step", "0.5,1"]


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _write(OmegaConf.create({"kind": "tensorboard"}), tmp_path / "logs" / "even", 1)
    events = EventAccumulator(str(tmp_path / "logs" / "even"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5)]


def test_mlflow_goes_on_with_the_run_of_a_resumed_training(
    empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    node = OmegaConf.create({"kind": "mlflow", "uri": uri, "experiment": "fraud"})
    for step in (1, 2):
        _write(node, tmp_path / "20261101" / "logs" / "even", step)
    _write(node, tmp_path / "20261101" / "logs" / "all", 1)
    client = mlflow_client.connect(uri)
    experiment = client.get_experiment_by_name("fraud").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"20261101 even", "20261101 all"}
    even = runs["20261101 even"]
    assert even.data.params == {"trainer/lr": "0.1", "seed": "3"}
    history = client.get_metric_history(even.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"kind": "paper"}, "found 'paper', expected one of none, csv, tensorboard, mlflow"),
        ({"kind": "mlflow", "uri": "file:./mlruns"}, "logger.uri: found 'file:./mlruns'"),
    ],
)
def test_a_logger_that_cannot_be_had_is_refused(node: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build.check_logger(OmegaConf.create(node))


def test_a_logger_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "longstrand\[tensorboard\]"'):
        build.check_logger(OmegaConf.create({"kind": "tensorboard"}))
