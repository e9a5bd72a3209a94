"""The commands that README and docs show are commands that pipelines and benchmarks take."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.configured import training_config
from benchmarks.results import settings
from core import attention

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_blocks(text: str) -> list[str]:
    """What stands between fences that name no language."""
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    return [block for language, block in blocks if not language]


def _commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in shell_blocks(page.read_text()):
            lines = block.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s+", " ", line.split(" #")[0]) for line in lines]
    return sorted({c.strip() for c in found if "-m pipelines." in c})


@pytest.mark.parametrize("command", _commands())
def test_a_documented_command_composes(command: str, tmp_path: Path) -> None:
    _, module, *arguments = shlex.split(command[command.index("-m pipelines.") - 1 :])
    # What stands after -- is for the job that pipelines.schedule starts.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    shown = [] if "--help" in arguments else ["--cfg", "job"]
    asked = [*arguments[:end], *shown, *arguments[end:]]
    done = subprocess.run(
        [sys.executable, "-m", module, *asked],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def _benchmarks() -> list[str]:
    """Those between backticks."""
    text = "\n".join(page.read_text() for page in PAGES)
    return sorted(
        {" ".join(c.split()) for c in re.findall(r"`(python -m benchmarks\.[^`]+)`", text)}
    )


def test_both_kinds_of_commands_are_found() -> None:
    assert len(_commands()) > 40 and len(_benchmarks()) > 15


@pytest.mark.parametrize("command", _benchmarks())
def test_a_documented_benchmark_takes_its_settings(command: str) -> None:
    _, _, module, *arguments = shlex.split(command)
    taken = settings(importlib.import_module(module).Settings, arguments)
    experiment = getattr(taken, "experiment", "")
    if experiment:
        overrides = shlex.split(getattr(taken, "overrides", ""))
        training_config(["domain=genomics", f"experiment={experiment}", *overrides])


def test_the_core_guide_runs() -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/core.md").read_text(), re.M | re.S
    ):
        exec(compile(block, "docs/core.md", "exec"), {})


def test_every_link_of_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pictures_of_the_core_guide_are_what_patterns_draw() -> None:
    page = (ROOT / "docs/core.md").read_text()
    pictures = re.search(r"^```text pictures\n(.*?)^```", page, re.M | re.S)
    assert pictures is not None
    for group in pictures.group(1).strip("\n").split("\n\n"):
        names, *rows = group.split("\n")
        for name in re.split(r" {3,}", names):
            at = names.index(name)
            drawn = [row[at:].split(" ")[0] for row in rows]
            assert "\n".join(drawn) == eval(name, dict(vars(attention))).draw(len(rows)), name
