"""Mistakes on the command line are answered in a sentence, with exit code 2, within moments."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipelines.cli import as_text
from tests.pipelines.conftest import Outcome

Run = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("arguments", "said", "near"),
    [
        (["domain=toi"], "Could not find 'domain/toi'", "did you mean domain=toy?"),
        (["domain=toy", "model.dimm=3"], "Key 'dimm' not in", "did you mean model.dim="),
        (["domain=toy", "trainr.steps=3"], "Key 'trainr' not in", "did you mean trainer.steps="),
        (["domain=toy", "model.dim=wide"], "could not be converted to Integer", ""),
        ([], "You must specify 'domain'", ""),
    ],
)
def test_a_mistyped_argument_is_named_with_its_nearest_neighbour(
    command: Run, arguments: list[str], said: str, near: str
) -> None:
    outcome = command("train", *arguments)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert near in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    "value",
    [
        "day=1/x[1].csv",
        "it's=1",
        "a\\'=1",
        "a=1\\",
        "a=\\\\b",
        'a"=1',
        "(1",
        "é=ü, 2",
        "a b",
        "x.csv",
        "",
    ],
)
def test_a_value_is_the_text_that_was_typed(value: str) -> None:
    override = OverridesParser.create().parse_override(as_text(f"+input={value}"))
    assert (override.key_or_group, override.value()) == ("input", value)


def test_lists_and_quotes_stay_what_hydra_makes_of_them() -> None:
    for override in ("a=[1,2", "a={b: 1", "a='b=c'", "a=[1,2]", "a=1,2", "a=${b}", "a=3"):
        assert as_text(override) == override


def test_a_file_may_lie_in_a_folder_as_hive_names_it(command: Run) -> None:
    outcome = command("score", "bundle=b", "input=day=2024-03-01/x[1].csv", "output=o.csv")
    assert outcome.code == 2
    assert "input: found nothing at day=2024-03-01/x[1].csv, expected" in outcome.stderr


COMMANDS = ["train", "sweep", "evaluate", "score", "retrain", "simulate", "registry", "schedule"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_choices_without_importing_torch(command: Run, name: str) -> None:
    outcome = command(name, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert outcome.code == 0
    assert "== Settings (key=value) ==" in outcome.stdout
    assert "schema/" not in outcome.stdout
    imported = re.findall(r"\|\s+(\w+)$", outcome.stderr, re.MULTILINE)
    assert "hydra" in imported
    assert not {"torch", "polars", "pytorch_lightning"} & set(imported)


def test_a_bad_value_is_refused_before_any_run_folder_exists(command: Run, tmp_path) -> None:
    outcome = command("train", "domain=toy", "model.dim=10", "model.heads=4")
    assert outcome.code == 2
    assert "model.dim=10 must be a multiple of model.heads=4" in outcome.stderr
    assert outcome.summary["exit_code"] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override, said",
    [
        ("model.heads=0", "heads: got 0, expected an integer of at least 1"),
        ("+model.foo=3", "model.foo: found a setting that nothing reads, expected one of activ"),
        ("++attention.foo=3", "attention.foo: found a setting that nothing reads"),
        ("+foo=3", "foo: found a setting that nothing reads"),
    ],
)
def test_settings_without_effect_or_heads_are_refused(
    command: Run, tmp_path, override: str, said: str
) -> None:
    outcome = command("train", "domain=toy", override)
    assert outcome.code == 2
    assert said in outcome.summary["error"]
    assert not list(tmp_path.iterdir())


def test_missing_arguments_are_named(command: Run) -> None:
    outcome = command("score", "input=a.csv")
    assert outcome.code == 2
    assert "missing: bundle=..., output=..." in outcome.stderr


def test_a_decoy_conf_in_the_working_directory_changes_nothing(command: Run, tmp_path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("")
    (tmp_path / "conf" / "train.yaml").write_text("seed: 999\n")
    (tmp_path / "conf.py").write_text("raise SystemExit(9)\n")
    outcome = command("train", "domain=toy", "--cfg", "job")
    assert outcome.code == 0
    assert "seed: 0" in outcome.stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "passive"}, None),
    ],
)
def test_threads_wait_without_spinning_unless_the_user_has_said_how(
    given: dict[str, str], expected: str | None
) -> None:
    asked = "import os, sys, pipelines; print(os.getenv('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", asked], env=kept | given, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(expected), "False"]
