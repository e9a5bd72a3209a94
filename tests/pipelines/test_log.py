"""Stages on standard error: machine lines or words, counts and names, never a row."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from omegaconf import DictConfig, OmegaConf

from core.errors import ConfigError, LockHeldError, Preempted
from pipelines import cli, log, runs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The root logger as it was, whatever `configure` did to it."""
    monkeypatch.delenv(log.FORMAT, raising=False)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_stage_says_its_start_and_its_end_with_seconds_and_what_it_found() -> None:
    stream = io.StringIO()
    log.configure("train", stream)
    log.about(domain="toy")
    with log.stage("train", fold="even") as done:
        done["rows"] = 30
    start, end = lines(stream)
    assert (start["stage"], start["state"], start["fold"]) == ("train", "started", "even")
    assert (end["state"], end["rows"], end["domain"]) == ("done", 30, "toy")
    assert end["command"] == "train"
    assert end["seconds"] >= 0
    assert end["time"].endswith("Z")


@pytest.mark.parametrize(
    ("error", "state", "level"),
    [(ValueError("card 4111111111111111"), "failed", "error"), (Preempted(), "stopped", "warning")],
)
def test_a_stage_that_ends_in_an_error_says_its_type_and_not_what_the_error_quotes(
    error: Exception, state: str, level: str
) -> None:
    stream = io.StringIO()
    log.configure("score", stream)
    with pytest.raises(type(error)), log.stage("open"):
        raise error
    end = lines(stream)[-1]
    assert (end["state"], end["level"], end["error"]) == (state, level, type(error).__name__)
    assert "4111" not in stream.getvalue()


def test_a_terminal_gets_words() -> None:
    stream = Terminal()
    log.configure("train", stream)
    with log.stage("open", files=2):
        pass
    assert stream.getvalue().splitlines()[0].endswith(" INFO longstrand: open started, files=2")


@pytest.mark.parametrize(("chosen", "first"), [("json", "{"), ("plain", "2")])
def test_the_environment_decides_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: str, first: str
) -> None:
    monkeypatch.setenv(log.FORMAT, chosen)
    for stream in (Terminal(), io.StringIO()):
        log.configure("train", stream)
        logging.getLogger("elsewhere").info("said\nin two lines")
        assert stream.getvalue().startswith(first)


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log.FORMAT, "xml")
    with pytest.raises(ConfigError, match="LONGSTRAND_LOG: found 'xml', expected json or plain"):
        log.configure("train", io.StringIO())


def test_rows_cannot_be_logged_by_mistake() -> None:
    log.configure("train", io.StringIO())
    with pytest.raises(TypeError, match="rows is a Series"), log.stage("train") as done:
        done["rows"] = pl.Series([1, 2])  # type: ignore[assignment]


def test_a_job_of_a_grid_forgets_what_the_one_before_was_about() -> None:
    log.configure("train", io.StringIO())
    log.about(run="runs/toy/1")
    log.begin("train")
    assert log.known() == {"command": "train"}


@pytest.mark.parametrize(
    ("error", "level", "code"),
    [
        (LockHeldError("held"), "warning", 75),
        (Preempted("stopped"), "warning", 143),
        (ConfigError("wrong"), "error", 2),
        (OSError("disk full"), "error", 1),
    ],
)
def test_a_held_lock_and_a_stop_are_no_error_lines(
    monkeypatch: pytest.MonkeyPatch, error: Exception, level: str, code: int
) -> None:
    def command(config: DictConfig) -> dict:
        raise error

    stream = io.StringIO()
    log.configure("train", stream)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        cli._guarded(command, OmegaConf.create({}), "train")
    assert left.value.code == code
    assert [line["level"] for line in lines(stream)] == [level]


def test_the_file_of_a_run_is_whole_where_a_program_logs_warnings_only(tmp_path: Path) -> None:
    root, heard = logging.getLogger(), io.StringIO()
    own = logging.StreamHandler(heard)
    root.handlers[:] = [own]
    root.setLevel(logging.WARNING)
    with runs.logged(tmp_path / "train.log"), log.stage("train", fold="all"):
        log.log.warning("careful")
    assert heard.getvalue() == "careful\n"
    said = (tmp_path / "train.log").read_text()
    assert "train done, fold=all, seconds=" in said and "WARNING longstrand: careful" in said
    assert (root.level, own.level, root.handlers) == (logging.WARNING, logging.NOTSET, [own])
