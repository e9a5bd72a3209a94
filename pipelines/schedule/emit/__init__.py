"""Files for schedulers that are there already: text by file name, nothing of ours running."""

from pipelines.schedule.emit.airflow import airflow
from pipelines.schedule.emit.crontab import crontab
from pipelines.schedule.emit.kubernetes import kubernetes
from pipelines.schedule.emit.systemd import systemd

__all__ = ["airflow", "crontab", "kubernetes", "systemd"]
