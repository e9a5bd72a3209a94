"""The embedded scheduler: APScheduler keeps the time, a subprocess does the work."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from pipelines.schedule.cron import DAYS
from pipelines.schedule.job import HARMLESS, Job, child_environment

log = logging.getLogger("longstrand.schedule")
# What a shell says of a command that it cannot start.
_NOT_STARTED = 127


@dataclass(frozen=True)
class Ended:
    """One start of the job: the time it was due, and its exit code."""

    due: datetime
    code: int

    @property
    def stopped(self) -> bool:
        # A child that had no time yet to answer SIGTERM dies of it.
        return self.code in (143, -signal.SIGTERM)

    @property
    def harmless(self) -> bool:
        return self.code == 0 or self.code in HARMLESS or self.stopped


def trigger(job: Job) -> CronTrigger:
    """When the job is due."""
    names = ("minute", "hour", "day", "month")
    fields = {name: ",".join(map(str, getattr(job.cron, name))) for name in names}
    week = ",".join(DAYS[i] for i in job.cron.weekday)
    return CronTrigger(**fields, day_of_week=week, timezone=job.timezone)


class Runner:
    """Starts the job as a subprocess and waits for it; `terminate` ends it and starts no more."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ended: list[Ended] = []
        self.interrupted: Ended | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, due: datetime) -> None:
        late = (datetime.now(UTC) - due).total_seconds()
        facts: dict[str, Any] = {"job": self.job.name, "due": due.isoformat()}
        if late > self.job.grace:
            log.warning("left out, too late", extra={"facts": {**facts, "late": round(late)}})
            return
        with self._lock:
            if self._stopping:
                return
            try:
                child = self._child = self._started(due)
            except OSError as error:
                log.error("job not started: %s", error, extra={"facts": facts})
                self.ended.append(Ended(due, _NOT_STARTED))
                return
        log.info("job started", extra={"facts": {**facts, "pid": child.pid}})
        self._note(Ended(due, child.wait()), facts)

    def _started(self, due: datetime) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C reaches us, and we stop it with SIGTERM.
        return subprocess.Popen(
            self.job.argv(due),
            cwd=self.job.folder,
            env=child_environment(),
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    def _note(self, ended: Ended, facts: dict[str, Any]) -> None:
        with self._lock:
            self._child = None
            self.ended.append(ended)
            if self._stopping:
                self.interrupted = ended
        level = logging.INFO if ended.harmless else logging.ERROR
        log.log(level, "job ended", extra={"facts": {**facts, "exit_code": ended.code}})

    def terminate(self) -> None:
        with self._lock:
            self._stopping = True
            if self._child is not None:
                self._child.terminate()


class OneAtATime(BaseExecutor):
    """Runs the job in the scheduler's own thread and hands it the time it was due: what falls due
    meanwhile waits there and is coalesced into one start, instead of being dropped."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self.runner.run(run_times[-1])
        self._run_job_success(job.id, [])


def due() -> None:
    """What APScheduler holds to be the job; `OneAtATime` starts the real one."""


def keep(runner: Runner, stop: threading.Event) -> None:
    """Start the job when it is due, until `stop`; then stop a job that runs, and wait for it."""
    for name in ("apscheduler.scheduler", "apscheduler.executors"):
        logging.getLogger(name).setLevel(logging.WARNING)
    scheduler = BackgroundScheduler(
        timezone=runner.job.timezone, executors={"default": OneAtATime(runner)}
    )
    scheduler.add_job(due, trigger(runner.job), coalesce=True, max_instances=1)
    scheduler.start()
    stop.wait()
    runner.terminate()
    scheduler.shutdown()
