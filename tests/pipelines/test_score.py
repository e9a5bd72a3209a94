"""Scoring and evaluating with a bundle: resumed, refused, repeated."""

from __future__ import annotations

import hashlib
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


def test_scoring_stopped_in_the_middle_goes_on_with_other_workers_and_ends_the_same(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    arguments = ("score", f"bundle={trained}", "input=new/toy.csv")
    whole = command(*arguments, "output=whole.csv")
    assert whole.code == 0, whole.stderr
    stopped = command(*arguments, "output=out.csv", TOY_FAIL_AT="part-2")
    assert stopped.code == 1
    assert not (tmp_path / "out.csv").exists()
    journal = str(tmp_path / "journal")
    rest = command(*arguments, "output=out.csv", "engine.workers=2", TOY_JOURNAL=journal)
    assert rest.code == 0, rest.stderr
    assert (rest.summary["partitions"], rest.summary["resumed"]) == (4, 2)
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
    assert "lie where the bundle was trained" in refused.stderr
    allowed = command("evaluate", f"bundle={trained}", "allow_overlap=true", "out=m.json")
    assert allowed.code == 0, allowed.stderr
    assert allowed.summary["rows_seen_in_training"] == {"allowed": 60}
    figures = allowed.summary["metrics"]
    assert json.loads((tmp_path / "m.json").read_text()) == figures
    assert all(f["protocol"].endswith("rows seen in training among them") for f in figures)


def test_evaluate_leaves_out_only_the_rows_that_were_seen(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    table = pl.read_csv(tmp_path / "new" / "toy.csv")
    pl.concat([table, table.head(3)]).write_csv(tmp_path / "more.csv")
    outcome = command("evaluate", f"bundle={trained}", "config.data.path=more.csv")
    assert outcome.code == 0, outcome.stderr
    assert outcome.summary["rows"] == 3
    assert outcome.summary["rows_seen_in_training"] == {"left_out": 60}
    assert all("seen in training" not in f["protocol"] for f in outcome.summary["metrics"])


def test_an_output_that_cannot_be_written_is_refused_before_scoring(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    arguments = ("score", f"bundle={trained}", "input=new/toy.csv")
    outcome = command(*arguments, "output=o.txt", TOY_JOURNAL=str(journal))
    assert outcome.code == 2
    assert not journal.exists()
    outcome = command(*arguments, "output=new/toy.csv/o.csv")
    assert outcome.code == 2
    assert "Traceback" not in outcome.stderr


def test_an_override_that_changes_the_model_is_refused(
    command: Run, trained: Path, tmp_path: Path
) -> None:
    manifest = trained / "bundle.yaml"
    manifest.write_text(manifest.read_text().replace("dim: 8", "dim: 16"))
    sums = trained / "SHA256SUMS"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    rest = [line for line in sums.read_text().splitlines() if "bundle.yaml" not in line]
    sums.write_text("\n".join([f"{digest}  bundle.yaml", *rest]) + "\n")
    outcome = command("score", f"bundle={trained}", "input=new/toy.csv", "output=o.csv")
    assert outcome.code == 2
    assert "the weights do not fit" in outcome.stderr


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


def test_a_back_test_of_rows_without_time_is_refused(command: Run, trained: Path) -> None:
    outcome = command("evaluate", f"bundle={trained}", "backtest=weekly")
    assert outcome.code == 2
    assert "whose rows have no time to walk through" in outcome.stderr
