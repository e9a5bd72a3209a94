"""What benchmarks share around their figures."""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.results import machine, settings, start, table, write
from core.errors import ConfigError


@dataclass
class Choices:
    device: str = "cpu"
    quick: bool = False
    repeats: int = 5


def test_settings_are_key_value_pairs_of_the_default_type():
    assert settings(Choices, ["quick=true", "repeats=2"]) == Choices(quick=True, repeats=2)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("quick", "expected key=value"),
        ("fast=true", "'fast=true', expected key=value with a key of"),
        ("repeats=true", "repeats: got 'true', expected int"),
    ],
)
def test_an_argument_that_fits_no_setting_is_refused(argument: str, message: str):
    with pytest.raises(ConfigError, match=message):
        settings(Choices, [argument])


def test_a_mistake_in_the_settings_ends_with_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["encoders", "size=3"])
    with pytest.raises(SystemExit) as stopped:
        start(Choices, lambda choices: pytest.fail("ran"))
    assert stopped.value.code == 2 and "error: got 'size=3'" in capsys.readouterr().err


def test_a_result_file_says_what_is_needed_to_judge_it(tmp_path):
    path = write("trial", [{"n": 4, "seconds": 0.5}], machine(), "cuda", tmp_path)
    saved = json.loads(path.read_text())
    assert path.name == "trial.cuda.json"
    assert set(saved) == {"benchmark", "when", "commit", "machine", "versions", "rows"}
    assert set(saved["machine"]) == {"cpu", "threads", "load", "gpu"}
    assert len(saved["machine"]["load"]["before"]) == len(saved["machine"]["load"]["after"]) == 3
    assert "torch" in saved["versions"] and saved["rows"] == [{"n": 4, "seconds": 0.5}]


def test_a_table_aligns_its_columns():
    rows = [{"n": 16384, "seconds": 0.51234}, {"n": 4, "seconds": None}]
    assert table(rows, ("n", "seconds")) == "    n  seconds\n16384    0.512\n    4        -"


@pytest.mark.parametrize("name", ["attention", "encoders", "layer"])
@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_there_is_said_with_exit_2(
    name: str,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    module = importlib.import_module(f"benchmarks.{name}")
    run = module.run if name == "encoders" else module.benchmark
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = [f"device={device}", "quick=true", f"out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as stopped:
        start(module.Settings, run)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert f"device: got '{device}', expected one of ['cpu']; torch finds no CUDA GPU" in said
    assert not list(tmp_path.iterdir())
