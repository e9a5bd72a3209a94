"""python -m pipelines.schedule: arguments to a job, and what to do with it."""

from __future__ import annotations

import getpass
import importlib.util
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from omegaconf import DictConfig, OmegaConf

from core.errors import ConfigError, Preempted
from pipelines import cli, runs
from pipelines.schedule.cron import Cron
from pipelines.schedule.job import Job
from pipelines.schema import ClusterSchema

if TYPE_CHECKING:
    from pipelines.schedule.clock import Runner

_KINDS = ("cron", "systemd", "k8s", "airflow")


def schedule(config: DictConfig, arguments: tuple[str, ...]) -> dict[str, Any]:
    """Write the files of another scheduler, or be the scheduler until SIGTERM."""
    job = _job(config, arguments)
    job.check(datetime.now(ZoneInfo(job.timezone)))
    if config.emit is not None:
        return _emitted(config, job)
    return _kept(job)


def _job(config: DictConfig, arguments: tuple[str, ...]) -> Job:
    inside = config.emit == "k8s"
    return Job(
        name=config.name or f"longstrand-{config.job}",
        command=config.job,
        arguments=arguments,
        cron=Cron.parse(config.cron),
        timezone=config.timezone,
        grace=config.grace,
        python=config.python or ("python" if inside else sys.executable),
        folder=Path(config.cluster.mount) if inside else Path(config.folder).resolve(),
    )


def _emitted(config: DictConfig, job: Job) -> dict[str, Any]:
    files = _files(config, job)
    if config.out is None:
        for name, text in files.items():
            print(f"# {name}\n{text}" if len(files) > 1 else text, end="")
        # The files and nothing else, so that they can be piped on; like --help, no summary.
        sys.exit(0)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        runs.write_text(out / name, text)
    return {"command": "schedule", "files": [str(out / name) for name in files]}


def _files(config: DictConfig, job: Job) -> dict[str, str]:
    from pipelines.schedule import emit

    match config.emit:
        case "cron":
            return emit.crontab(job)
        case "systemd":
            return emit.systemd(job, config.user or getpass.getuser())
        case "k8s":
            cluster = OmegaConf.to_object(config.cluster)
            assert isinstance(cluster, ClusterSchema)
            return emit.kubernetes(job, cluster)
        case "airflow":
            return emit.airflow(job)
        case other:
            raise ConfigError(f"emit: found {other!r}, expected one of {', '.join(_KINDS)}")


def _kept(job: Job) -> dict[str, Any]:
    if importlib.util.find_spec("apscheduler") is None:
        raise ConfigError(
            'the scheduler needs APScheduler: pip install "longstrand[schedule]"; --emit does not'
        )
    from pipelines.schedule.clock import Runner, keep, log, trigger

    first = trigger(job).get_next_fire_time(None, datetime.now(ZoneInfo(job.timezone)))
    if first is None:
        raise ConfigError(f"cron: {job.cron.text()!r} never comes")
    stop, runner = threading.Event(), Runner(job)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("waiting", extra={"facts": {"job": job.name, "next": first.isoformat()}})
    keep(runner, stop)
    return _summary(runner)


def _summary(runner: Runner) -> dict[str, Any]:
    cut = runner.interrupted
    if cut is not None and cut.stopped:
        raise Preempted(
            f"stopped by SIGTERM, and with it the job of {cut.due.isoformat()}, which goes on "
            "when it is started again with the same arguments"
        )
    failed = sum(1 for one in runner.ended if not one.harmless)
    return {"command": "schedule", "started": len(runner.ended), "failed": failed}


def split(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Ours for Hydra, and the job's: what stands after the first `--`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    ours: list[str] = []
    for argument in arguments[:at]:
        if ours and ours[-1] == "--emit":
            ours[-1] = f"emit={argument}"
        elif argument.startswith("cron=") and '"' not in argument and "'" not in argument:
            # Hydra would take the comma of mon,thu for a choice of two.
            ours.append(f'cron="{argument.removeprefix("cron=")}"')
        else:
            ours.append(argument.replace("--emit=", "emit=", 1))
    return ours, tuple(arguments[at + 1 :])


def main() -> None:
    """Console script longstrand-schedule."""
    ours, given = split(sys.argv[1:])
    sys.argv[1:] = ours

    def command(config: DictConfig) -> dict[str, Any]:
        return schedule(config, given)

    cli.run(command, "schedule")
