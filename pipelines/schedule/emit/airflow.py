"""A DAG file for Airflow 3."""

from __future__ import annotations

from core.errors import ConfigError
from pipelines.runs import RUN_ID
from pipelines.schedule.job import Job

_DAG = '''\
"""Longstrand: pipelines.{command}, {cron}, {timezone}."""

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

with DAG(
    dag_id={name!r},
    schedule=CronTriggerTimetable({cron!r}, timezone={timezone!r}),
    start_date=pendulum.datetime(2026, 1, 1, tz={timezone!r}),
    catchup=False,
    max_active_runs=1,
):
    BashOperator(
        task_id={command!r},
        bash_command={start!r},
        cwd={folder!r},
        # Another run holds the lock: skipped, not failed.
        skip_on_exit_code=75,
        # A task that was stopped (143) goes on where it was.
        retries=2,
        retry_delay=timedelta(minutes=5),
    )
'''


def airflow(job: Job) -> dict[str, str]:
    """One run at a time, none made up for; the date is that of the run, on a retry too."""
    for argument in job.arguments:
        if any(mark in argument for mark in ("{{", "{%", "{#")):
            raise ConfigError(f"emit=airflow: found {argument!r}, which Airflow's templates read")
    start = job.shell(
        "-d @{{ dag_run.run_after.timestamp() | int }}", launcher=f"exec env -u {RUN_ID}"
    )
    text = _DAG.format(
        command=job.command,
        cron=job.cron.text(),
        timezone=job.timezone,
        name=job.name,
        # A command that ends in .sh would be taken for the name of a template file.
        start=f"{start} ",
        folder=str(job.folder),
    )
    return {f"{job.name.replace('-', '_')}.py": text}
