"""python -m pipelines.registry, and commands that take NAME@ALIAS for a bundle."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.registry.folder import FolderStore
from pipelines.registry.registry import Registry
from tests.pipelines.conftest import ROOT, Outcome
from tests.pipelines.registry.conftest import Make
from tests.test_docs import shell_blocks

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


def test_the_rollback_of_the_guide_works_as_it_says(
    command: Run, tmp_path: Path, bundle: Make
) -> None:
    registry = Registry(FolderStore(tmp_path / "models"))
    for number, text in enumerate(("one", "two", "three"), 1):
        registry.publish("fraud", bundle(text))
        registry.promote("fraud", number)
    guide = (ROOT / "docs" / "operations.md").read_text()
    section = guide.split("### Rollback at 3 a.m.")[1].split("\n##")[0]
    blocks = shell_blocks(section)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    champions = []
    for line in lines:
        _, _, module, *arguments = shlex.split(line)
        assert module == "pipelines.registry"
        outcome = command("registry", *arguments)
        assert outcome.code == 0, outcome.stderr
        champions.append((arguments[0], registry.resolve("fraud").number))
    assert champions == [
        ("show", 3),
        ("rollback", 2),
        ("verify", 2),
        ("list", 2),
        ("promote", 1),
    ]
