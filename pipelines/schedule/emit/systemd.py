"""A service that runs once and the timer that starts it."""

from __future__ import annotations

from pipelines.schedule.job import HARMLESS, Job

_SERVICE = """\
[Unit]
Description=Longstrand: pipelines.{command}

[Service]
Type=oneshot
User={user}
WorkingDirectory={folder}
EnvironmentFile=-/etc/longstrand/{name}.env
UnsetEnvironment=LONGSTRAND_RUN_ID
ExecStart=/bin/sh -c {start}
SuccessExitStatus={harmless}
KillMode=mixed
TimeoutStopSec=15min
"""
_TIMER = """\
[Unit]
Description=Longstrand: when pipelines.{command} starts

[Timer]
OnCalendar={calendar}
AccuracySec=1s
Persistent=true
Unit={name}.service

[Install]
WantedBy=timers.target
"""


def systemd(job: Job, user: str) -> dict[str, str]:
    """A service that still runs is not started again; one missed while the machine was off starts
    once when it is on again, with the date of that day."""
    service = _SERVICE.format(
        command=job.command,
        user=user,
        folder=str(job.folder).replace("%", "%%"),
        name=job.name,
        start=_quoted(job.shell()),
        harmless=" ".join(map(str, HARMLESS)),
    )
    calendar = job.cron.calendar(job.timezone)
    timer = _TIMER.format(command=job.command, calendar=calendar, name=job.name)
    return {f"{job.name}.service": service, f"{job.name}.timer": timer}


def _quoted(text: str) -> str:
    """systemd.service(5): C-like escapes in quotes, specifiers by % and variables by $."""
    for found, said in (("\\", r"\\"), ('"', r"\""), ("%", "%%"), ("$", "$$"), ("\n", r"\n")):
        text = text.replace(found, said)
    return f'"{text}"'
