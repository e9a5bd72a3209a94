"""Start a one-shot command at fixed times, or print the files that have another scheduler do it.

    python -m pipelines.schedule cron='0 3 * * mon' timezone=Europe/Berlin job=retrain \\
        -- domain=finance as_of={date}

What stands after `--` goes to the job as it is, but for `{date}`, the date at which the job was
to start in that time zone, and `{date-N}`, N days before: a job never reads the clock.
"""

from pipelines.schedule.command import main

__all__ = ["main"]
