"""Three months in which everything goes wrong once, and the champion is never lost."""

from __future__ import annotations

import signal
from pathlib import Path

import polars as pl

from core.bundle import load_bundle
from pipelines.retrain.stages import KILL_AT
from tests.pipelines.retrain.conftest import Town

WEAK, STRONG = ("trainer.steps=3",), ("trainer.steps=80",)
POINTS = (
    "start.done",
    "scores.done",
    "drift.done",
    "training",
    "training.done",
    "challenger",
    "challenger.done",
    "verdict.done",
    "report.done",
    "decision.done",
    "decision_published",
    "decision_published.done",
    "decision_ended",
    "decision_ended.done",
    "done.done",
)
"""After a stage; without `.done`, after its work and before its file says so."""


def test_three_months_of_weekly_files(town: Town) -> None:
    # The first champion, a weak one. A rerun changes nothing.
    town.deliver("2024-02-19")
    first = town.retrain("2024-02-26", *WEAK)
    assert first.code == 0, first.stderr
    assert (first.summary["promoted"], town.champion()) == (True, 1)
    before = _files(town.home)
    again = town.retrain("2024-02-26", *WEAK)
    assert (again.code, again.summary["already_done"]) == (0, True)
    assert _files(town.home) == before
    assert town.record() == [("judged", "2024-02-26"), ("promoted", "2024-02-26")]

    # Three weeks later amounts are three times as high: the drift is seen. A better challenger
    # would win; as a dry run it changes nothing.
    town.deliver("2024-03-11", changed=pl.col("amount") * 3)
    kept = _files(town.home / "models")
    dry = town.retrain("2024-03-18", *STRONG, "dry_run=true")
    assert dry.code == 0, dry.stderr
    assert (dry.summary["better"], dry.summary["promoted"]) == (True, False)
    assert "amount" in dry.summary["drifted"]
    assert (town.champion(), _files(town.home / "models")) == (1, kept)

    # For real it goes on after the verdict, and two started at once promote once.
    both = [town.start("2024-03-18", *STRONG) for _ in range(2)]
    codes = sorted(started.outcome().code for started in both)
    assert codes in ([0, 0], [0, 75])
    assert town.champion() == 2
    assert town.record()[2:] == [("judged", "2024-03-18"), ("promoted", "2024-03-18")]

    # A file with unusable labels is refused by name; the champion stays.
    town.deliver("2024-03-18", changed=pl.lit("maybe").alias("fraud"))
    refused = town.retrain("2024-03-25", *STRONG)
    assert refused.code == 3
    assert "2024-03-18.csv" in refused.stderr
    assert "expected 1, 0, true, false, yes, no or empty" in refused.stderr
    assert town.champion() == 2
    assert town.record()[-1] == ("refused", "2024-03-25")

    # Corrected, a weak challenger is kept out, and somebody insists.
    (town.inbox / "2024-03-18.csv").unlink()
    town.deliver("2024-03-25")
    weak = town.retrain("2024-04-01", *WEAK)
    assert weak.code == 0, weak.stderr
    assert (weak.summary["promoted"], weak.summary["version"], town.champion()) == (False, 3, 2)
    assert "gate.min_gain" in weak.summary["reason"]
    forced = town.retrain("2024-04-01", *WEAK, "force=true")
    assert (forced.code, forced.summary["promoted"], town.champion()) == (0, True, 3)
    assert town.record()[-3:] == [(e, "2024-04-01") for e in ("judged", "kept", "forced")]
    assert "Champion against the frozen first version, by week" in _report(town, weak.summary)


def test_killed_at_every_stage_it_ends_as_if_it_had_not_been(town: Town, tmp_path: Path) -> None:
    town.deliver("2024-03-25")
    unbroken = Town(tmp_path / "unbroken", town.weeks)
    unbroken.home.mkdir()
    (unbroken.home / "inbox").symlink_to(town.inbox)
    for place in (town, unbroken):
        assert place.retrain("2024-02-26", *WEAK).code == 0
    assert unbroken.retrain("2024-03-18", *STRONG).summary["promoted"]
    for point in POINTS:
        killed = town.retrain("2024-03-18", *STRONG, **{KILL_AT: point})
        assert killed.code == -signal.SIGKILL, (point, killed.stderr)
        assert town.champion() in (1, 2), point
    ended = town.retrain("2024-03-18", *STRONG)
    assert ended.code == 0, ended.stderr
    assert ended.summary["promoted"]
    assert town.champion() == 2
    versions = [
        [v.model_version for v in place.registry.versions("fraud")] for place in (town, unbroken)
    ]
    assert versions[0] == versions[1]
    assert town.record() == unbroken.record()


def test_the_next_retraining_finishes_what_a_killed_one_had_decided(town: Town) -> None:
    town.deliver("2024-03-25")
    killed = town.retrain("2024-02-26", *WEAK, **{KILL_AT: "decision.done"})
    assert (killed.code, town.champion()) == (-signal.SIGKILL, None)
    following = town.retrain("2024-03-18", *STRONG, "init=champion")
    assert (following.code, town.champion()) == (0, 2), following.stderr
    events = [event for event, _ in town.record()]
    assert events == ["judged", "promoted", "judged", "promoted"]
    # It went on from the champion's weights, so it has seen the champion's labels too.
    first, second = (load_bundle(v.path) for v in town.registry.versions("fraud"))
    assert set(first.label_intervals) < set(second.label_intervals)
    assert first.tokenizer == second.tokenizer


def test_who_holds_the_model_is_said(town: Town) -> None:
    town.deliver("2024-02-19")
    with town.registry.lock("fraud"):
        held = town.retrain("2024-02-26", *WEAK)
    assert held.code == 75
    assert "another job holds this model" in held.stderr
    assert town.champion() is None


def _files(folder: Path) -> dict[str, bytes]:
    """Contents of everything but logs and what commands said."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".log" and "commands" not in path.parts
    }


def _report(town: Town, summary: dict) -> str:
    return (Path(summary["run"]) / "report.html").read_text()
