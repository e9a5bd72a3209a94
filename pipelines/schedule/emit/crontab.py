"""A line for `crontab -e`."""

from __future__ import annotations

import shlex

from core.errors import ConfigError
from pipelines.schedule.job import HARMLESS, Job

# Vixie cron and cronie read no longer command.
_LONGEST = 990


def crontab(job: Job) -> dict[str, str]:
    """One start at a time, by flock; a word on standard output, which cron sends by mail, only
    where the job failed."""
    harmless = "|".join(map(str, (0, *HARMLESS)))
    start = job.shell(launcher=f"flock -n -E 75 .{job.name}.lock")
    log = f"{job.folder}/{job.name}.log"
    command = (
        f"cd {shlex.quote(str(job.folder))} && {{ {start}; }} >>{job.name}.log 2>&1; code=$?; "
        f"case $code in {harmless}) ;; "
        f"*) echo {shlex.quote(f'{job.name}: see {log}')}, exit code $code ;; esac"
    )
    command = command.replace("%", r"\%")
    if len(command) > _LONGEST:
        raise ConfigError(
            f"emit=cron: the line has {len(command)} characters, cron reads {_LONGEST}; put some "
            "of the overrides into a file of conf/experiment"
        )
    lines = [
        f"# {job.name}: {job.cron.text()}, {job.timezone}. For crontab -e; logs to {log}.",
        "# cronie and systemd-cron obey CRON_TZ. Debian's cron does not: there the machine's own",
        f"# time zone must be {job.timezone} (timedatectl set-timezone), or use the systemd timer.",
        f"CRON_TZ={job.timezone}",
        "SHELL=/bin/sh",
        f"{job.cron.crontab()} {command}",
    ]
    return {f"{job.name}.crontab": "\n".join(lines) + "\n"}
