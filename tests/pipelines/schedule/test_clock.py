"""The embedded scheduler: dates, no overlap, missed starts, a clean stop; and mistakes, at once."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from core.errors import ConfigError
from pipelines.schedule import clock, command
from pipelines.schedule.clock import Runner, keep
from pipelines.schedule.command import split
from pipelines.schedule.job import Job
from tests.pipelines.conftest import ROOT, run_command
from tests.pipelines.schedule.conftest import FIRE, STARTED, started

Make = Callable[..., Job]
# main(), on a clock that strikes twice a second.
FAST = (
    "from apscheduler.triggers.interval import IntervalTrigger;"
    "from pipelines.schedule import clock, main;"
    "clock.trigger = lambda job: IntervalTrigger(seconds=0.5, timezone=job.timezone);"
    "main()"
)


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LONGSTRAND_RUN_ID", "of the scheduler")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for a minute"
        time.sleep(0.01)


def test_the_job_is_given_the_date_it_was_due_and_a_run_id_of_its_own(
    job: Make, tmp_path: Path
) -> None:
    runner = Runner(job(grace=10**9))
    runner.run(FIRE)
    assert started(tmp_path) == STARTED
    assert [(one.due, one.code) for one in runner.ended] == [(FIRE, 0)]


def test_a_start_that_is_too_late_is_left_out_and_said(
    job: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Runner(job()).run(datetime.now(UTC) - timedelta(seconds=3700))
    assert not (tmp_path / "started").exists()
    assert "left out, too late" in caplog.text


@pytest.mark.parametrize(
    ("code", "level"), [(0, "INFO"), (75, "INFO"), (143, "INFO"), (3, "ERROR")]
)
def test_a_failed_job_is_an_error_line_and_the_next_one_starts(
    job: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    level: str,
) -> None:
    monkeypatch.setenv("EXIT", str(code))
    runner = Runner(job())
    with caplog.at_level(logging.INFO):
        runner.run(datetime.now(UTC))
        runner.run(datetime.now(UTC))
    ends = [r for r in caplog.records if r.getMessage() == "job ended"]
    assert [(r.levelname, vars(r)["facts"]["exit_code"]) for r in ends] == [(level, code)] * 2


def test_a_job_that_cannot_be_started_is_a_failure_and_no_end(
    job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(job(python="/nowhere/python"))
    runner.run(datetime.now(UTC))
    assert "job not started: [Errno 2]" in caplog.text
    assert [one.harmless for one in runner.ended] == [False]


def test_starts_that_fall_due_while_the_job_runs_become_one(
    job: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLD", str(tmp_path / "go"))
    every = timedelta(seconds=0.1)
    monkeypatch.setattr(clock, "trigger", lambda _: IntervalTrigger(seconds=0.1, timezone="UTC"))
    runner, stop = Runner(job()), threading.Event()
    thread = threading.Thread(target=keep, args=(runner, stop))
    thread.start()
    wait_for((tmp_path / "started").exists)
    missed_until = datetime.now(UTC) + 5 * every
    wait_for(lambda: datetime.now(UTC) > missed_until)
    assert runner.ended == []
    (tmp_path / "go").touch()
    wait_for(lambda: len(runner.ended) >= 2)
    stop.set()
    thread.join()
    first, second = runner.ended[:2]
    assert second.due - first.due > 4 * every


def test_a_stop_ends_the_job_and_starts_no_more(
    job: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLD", str(tmp_path / "go"))
    runner = Runner(job())
    thread = threading.Thread(target=runner.run, args=(datetime.now(UTC),))
    thread.start()
    wait_for((tmp_path / "started").exists)
    runner.terminate()
    thread.join()
    assert runner.interrupted is not None and runner.interrupted.code == 143
    assert started(tmp_path)[-1] == "stopped"
    (tmp_path / "started").unlink()
    runner.run(datetime.now(UTC))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("busy", [True, False])
def test_sigterm_stops_the_scheduler_and_a_job_in_flight(
    job: Make, tmp_path: Path, busy: bool
) -> None:
    program = [FAST] if busy else [FAST.replace("0.5", "3600")]
    ours = ("cron=0 3 * * mon", "timezone=UTC", "job=score", f"python={job().python}")
    process = subprocess.Popen(
        [sys.executable, "-c", *program, *ours, "--", "bundle=b", "input=i", "output={date}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOLD": str(tmp_path / "never")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if ("job started" if busy else "waiting") in line:
            break
    if busy:
        wait_for((tmp_path / "started").exists)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    summary = json.loads(out.splitlines()[-1])
    assert process.returncode == (143 if busy else 0)
    if busy:
        assert started(tmp_path)[-1] == "stopped"
        assert "stopped by SIGTERM" in summary["error"]
    else:
        assert (summary["started"], summary["failed"]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "rm"}, "job: found 'rm', expected one of"),
        ({"timezone": "Berlin"}, "timezone: found 'Berlin'"),
        ({"timezone": "Europe"}, "timezone: found 'Europe'"),
        ({"name": "Night Job"}, "name: found 'Night Job'"),
        ({"grace": 0}, "grace: found 0"),
        ({"command": "retrain", "arguments": ("domain=toy",)}, "add as_of={date} after the --"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(job: Make, changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        job(**changes)


def test_a_mistyped_argument_of_the_job_is_refused_when_the_schedule_starts(job: Make) -> None:
    with pytest.raises(ConfigError, match=r"job=score takes no such arguments: .*Key 'bundel' not"):
        job(arguments=("bundel=b", "input=a", "output=b")).check(FIRE)


def test_files_are_printed_alone_so_that_they_can_be_piped_on(
    project: Path, tmp_path: Path
) -> None:
    ours = ("cron=0 3 * * mon,thu", "timezone=UTC", "job=score", "--emit", "cron")
    done = run_command(
        project, tmp_path, "schedule", *ours, "--", "bundle=b", "input=a", "output={date}"
    )
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("0 3 * * 1,4 cd ")


def test_without_apscheduler_the_extra_is_named(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pip install "longstrand\[schedule\]"'):
        command._kept(job())


def test_what_stands_after_the_dashes_is_the_jobs() -> None:
    ours, given = split(["cron=0 3 * * mon,thu", "--emit", "k8s", "--", "a={date}", "--", "--b"])
    assert ours == ['cron="0 3 * * mon,thu"', "emit=k8s"]
    assert given == ("a={date}", "--", "--b")
