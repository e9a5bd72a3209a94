"""Scoring and evaluating with a bundle: resumed, refused, repeated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.pipelines.conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def trained(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of a bundle, and a file to score in new/."""
    shutil.copytree(toy_run / "simulated", tmp_path / "new")
    return shutil.copytree(toy_run / "bundle", tmp_path / "bundle")


def test_scoring_stopped_in_the_middle_goes_on_and_ends_the_same(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    arguments = ("score", f"bundle={trained}", "input=new/toy.csv")
    whole = command(*arguments, "output=whole.csv")
    assert whole.code == 0, whole.stderr
    stopped = command(*arguments, "output=out.csv", TOY_FAIL_AT="part-2")
    assert stopped.code == 1
    assert not (tmp_path / "out.csv").exists()
    rest = command(*arguments, "output=out.csv", TOY_JOURNAL=str(tmp_path / "journal"))
    assert rest.code == 0, rest.stderr
    assert (tmp_path / "journal").read_text().split() == ["part-2", "part-3"]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert pl.read_csv(tmp_path / "out.csv")["scored_before"].unique().sort().to_list() == [
        0,
        15,
        30,
        45,
    ]
    assert not (tmp_path / "out.csv.parts").exists()


def test_a_changed_bundle_is_refused(command: Run, trained: Path) -> None:
    card = trained / "MODEL_CARD.md"
    card.write_text(card.read_text() + " ")
    outcome = command("score", f"bundle={trained}", "input=new/toy.csv", "output=o.csv")
    assert outcome.code == 2
    assert "MODEL_CARD.md: SHA-256" in outcome.stderr


def test_evaluate_refuses_labels_that_the_bundle_has_seen(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    refused = command("evaluate", f"bundle={trained}")
    assert refused.code == 3
    assert "has been trained on labels of row:" in refused.stderr
    allowed = command("evaluate", f"bundle={trained}", "allow_overlap=true", "out=m.json")
    assert allowed.code == 0, allowed.stderr
    assert allowed.summary["overlap_with_training"] is True
    assert json.loads((tmp_path / "m.json").read_text()) == allowed.summary["metrics"]


def test_an_unknown_override_of_the_bundle_configuration_is_refused(
    command: Run, trained: Path
) -> None:
    outcome = command("evaluate", f"bundle={trained}", "config.data.pth=3")
    assert outcome.code == 2
    assert "pth" in outcome.stderr


def test_scoring_a_missing_file_is_refused(command: Run, trained: Path) -> None:
    outcome = command("score", f"bundle={trained}", "input=no.csv", "output=o.csv")
    assert outcome.code == 2
    assert "input: found nothing at no.csv" in outcome.stderr
