"""metrics.prom: what a strict reader of the text format finds in it, after success and failure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from pipelines import prom
from tests.pipelines.conftest import SMALL, Outcome

Run = Callable[..., Outcome]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)")


def parsed(text: str) -> Series:
    """The series of a file; asserts every rule of the format that we use."""
    assert text.endswith("\n")
    series: Series = {}
    typed, helped, order = set(), set(), []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in helped
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind == "gauge" and name not in typed
            typed.add(name)
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert name in typed and name in helped
            pairs = LABEL.findall(labels)
            assert ",".join(f'{k}="{v}"' for k, v in pairs) == labels
            assert len({k for k, _ in pairs}) == len(pairs)
            key = (name, frozenset(pairs))
            assert key not in series
            series[key] = float(value)
            order.append(name)
    # all lines of a name stand together
    assert len([n for i, n in enumerate(order) if i == 0 or order[i - 1] != n]) == len(set(order))
    return series


def values(path: Path) -> dict[str, float]:
    """By name, with the figure's name for metrics; for files of one command and one domain."""
    return {
        ":".join(
            [name.removeprefix("longstrand_last_"), *sorted(v for k, v in labels if k == "metric")]
        ): value
        for (name, labels), value in parsed(path.read_text()).items()
    }


def finished(code: int = 0, ended: float = 1.7e9, **summary: object) -> prom.Finished:
    return prom.Finished("score", "toy", ended, 2.5, code, summary)


def test_the_summary_is_exported_with_labels(tmp_path: Path) -> None:
    run = finished(rows=9, scored=7, set_aside=2, promoted=False, metrics={"auc": 0.75})
    prom.write(run, None, tmp_path)
    path = tmp_path / "longstrand_score_toy.prom"
    assert values(path) == {
        "run_end_timestamp_seconds": 1.7e9,
        "run_duration_seconds": 2.5,
        "run_exit_code": 0,
        "success_timestamp_seconds": 1.7e9,
        "run_rows": 9,
        "run_rows_scored": 7,
        "run_rows_set_aside": 2,
        "run_promoted": 0,
        "run_metric:auc": 0.75,
    }
    labels = {labels for _, labels in parsed(path.read_text())}
    assert all({("command", "score"), ("domain", "toy")} <= set(pairs) for pairs in labels)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_failure_keeps_the_time_of_the_last_success_and_drops_its_figures(tmp_path: Path) -> None:
    prom.write(finished(ended=100.0, metrics={"auc": 0.75}), tmp_path, None)
    prom.write(finished(3, ended=200.0), tmp_path, None)
    prom.write(finished(1, ended=300.0), tmp_path, None)
    assert values(tmp_path / "metrics.prom") == {
        "run_end_timestamp_seconds": 300.0,
        "run_duration_seconds": 2.5,
        "run_exit_code": 1,
        "success_timestamp_seconds": 100.0,
    }


def test_a_start_that_found_the_lock_held_leaves_the_metrics_of_the_last_run(
    tmp_path: Path,
) -> None:
    prom.write(finished(), tmp_path, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    prom.write(finished(75, ended=1.8e9), tmp_path, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_rows_of_metrics_keep_model_data_and_protocol_and_any_name_is_escaped(
    tmp_path: Path,
) -> None:
    row = {"data": 'a"b\\c\nd', "protocol": "by exon", "metric": "auc", "low": 0.1, "high": 0.9}
    rows = [{**row, "model": model, "value": 0.5} for model in ("ours", "zero")]
    prom.write(finished(metrics=rows), tmp_path, None)
    found = [
        dict(labels)
        for name, labels in parsed((tmp_path / "metrics.prom").read_text())
        if name == "longstrand_last_run_metric"
    ]
    assert {labels["model"] for labels in found} == {"ours", "zero"}
    assert {labels["data"] for labels in found} == {r"a\"b\\c\nd"}


@pytest.mark.parametrize(("champion", "models"), [(0.5, 2), (None, 1)])
def test_two_models_that_were_compared_are_told_apart(
    tmp_path: Path, champion: float | None, models: int
) -> None:
    compared = {"metric": "auc", "champion_value": champion, "challenger_value": 0.6}
    prom.write(finished(promoted=True, **compared), tmp_path, None)
    series = parsed((tmp_path / "metrics.prom").read_text())
    found = [dict(labels)["model"] for name, labels in series if name.endswith("_metric")]
    assert sorted(found) == ["challenger", "champion"][:models]


def test_a_folder_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prom: found no folder at"):
        prom.check(str(tmp_path / "no"))


def test_a_training_exports_to_its_run_folder_and_to_the_collector(
    command: Run, tmp_path: Path
) -> None:
    wrong = command("train", "domain=toy", "model.dimm=3", LONGSTRAND_PROM=str(tmp_path))
    path = tmp_path / "longstrand_train_toy.prom"
    assert (wrong.code, values(path)["run_exit_code"]) == (2, 2)
    done = command("train", "domain=toy", *SMALL, "trainer.steps=2", f"prom={tmp_path}")
    assert done.code == 0, done.stderr
    found = values(path)
    assert found["run_exit_code"] == 0
    assert found["run_metric:mean_absolute_error"] == done.summary["metrics"]["mean_absolute_error"]
    inside = tmp_path / done.summary["run"] / "metrics.prom"
    assert values(inside) == found
    assert os.stat(path).st_mode & 0o444 == 0o444 & ~_umask()
    score = command("score", "bundle=no", "input=a", "output=b", f"prom={tmp_path}")
    assert values(tmp_path / "longstrand_score_unknown.prom")["run_exit_code"] == score.code == 2


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
