"""python -m pipelines.registry, and commands that take NAME@ALIAS for a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.conftest import Outcome

Run = Callable[..., Outcome]


def test_a_published_champion_scores_until_it_is_rolled_back(
    command: Run, toy_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy_run / "bundle", tmp_path / "bundle")
    first = command("registry", "publish", "name=toy", "bundle=bundle", "note.why=first")
    second = command("registry", "publish", "name=toy", "bundle=bundle", "note.source_key=second")
    assert (first.summary["version"], second.summary["version"]) == ("toy@v0001", "toy@v0002")
    assert first.summary["note"] == {"why": "first"}
    for version in ("1", "v0002"):
        assert command("registry", "promote", "name=toy", f"version={version}").code == 0
    table = toy_run / "simulated" / "toy.csv"
    scored = command("score", "bundle=toy@champion", f"input={table}", "output=out.csv")
    assert scored.code == 0, scored.stderr
    assert scored.summary["model_version"] == second.summary["model_version"]
    assert scored.summary["bundle"] == "models/toy/v0002"
    back = command("registry", "rollback", "name=toy")
    assert (back.summary["version"], back.summary["was"]) == ("toy@v0001", 2)
    none = command("registry", "rollback", "name=toy")
    assert none.code == none.summary["exit_code"] == 2
    assert "no previous version" in none.summary["error"]
    listed = command("registry", "list")
    assert [(v["number"], v["aliases"]) for v in listed.summary["models"]["toy"]] == [
        (1, ["champion"]),
        (2, []),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "found no verb, expected first one of list, show"),
        (["demote"], "found demote"),
        (["promote", "name=toy"], "promote: missing: version=..."),
        (["list", "version=3"], "list: takes no version="),
        (["rollback", "name=toy"], "toy: found no model of this name; there are: none"),
    ],
)
def test_a_verb_that_cannot_be_done_is_answered(
    command: Run, tmp_path: Path, arguments: list[str], said: str
) -> None:
    outcome = command("registry", *arguments)
    assert outcome.code == outcome.summary["exit_code"] == 2
    assert said in outcome.summary["error"]
    assert not list(tmp_path.iterdir())


def test_help_lists_the_verbs(command: Run) -> None:
    outcome = command("registry", "--help")
    assert outcome.code == 0
    for verb in ("list", "show", "publish", "promote", "rollback", "verify"):
        assert f"\n{verb} " in outcome.stdout
