"""metrics.prom: the last run in Prometheus' text format, for node_exporter's textfile collector.

https://prometheus.io/docs/instrumenting/exposition_formats. One series a name and label set;
no identifier is among the labels.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigError

DIRECTORY = "LONGSTRAND_PROM"
COMMANDS = ("train", "evaluate", "score", "retrain")
LOCK_HELD = 75
_SUCCESS = "longstrand_last_success_timestamp_seconds"
_HELP = {
    "longstrand_last_run_end_timestamp_seconds": "When the last run ended, Unix time.",
    "longstrand_last_run_duration_seconds": "How long the last run took.",
    "longstrand_last_run_exit_code": "Exit code of the last run; docs/operations.md says of each.",
    _SUCCESS: "When a run last ended with exit code 0, Unix time.",
    "longstrand_last_run_rows": "Rows that the last run read.",
    "longstrand_last_run_rows_scored": "Rows that the last run gave a score.",
    "longstrand_last_run_rows_set_aside": "Rows of the last run that broke the data contract.",
    "longstrand_last_run_metric": "Figures of the last run's model on held-out labels.",
    "longstrand_last_run_promoted": "1 where the last run made its challenger the champion.",
}
_ROWS = {
    "rows": "longstrand_last_run_rows",
    "scored": "longstrand_last_run_rows_scored",
    "set_aside": "longstrand_last_run_rows_set_aside",
}


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Args:
        ended: Unix time.
        summary: what the command printed; of it `rows`, `scored`, `set_aside`, `promoted`,
            `metrics` (a number by name, or rows of core.contract.Metric), and `champion_value` and
            `challenger_value` of a `metric` are exported.
    """

    command: str
    domain: str
    ended: float
    seconds: float
    code: int
    summary: Mapping[str, Any] = field(default_factory=dict)


def check(directory: str | None) -> None:
    """Raises ConfigError for a directory that no metrics can be written to, before any work."""
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"prom: found no folder at {directory} that this user may write to; make it, or "
            f"leave out prom= and {DIRECTORY}"
        )


def write(run: Finished, folder: Path | None, directory: Path | None) -> None:
    """metrics.prom in the run's folder, and longstrand_<command>_<domain>.prom in `directory`.

    A start that found the lock held writes nothing: it is the holder whose run counts. Nor does
    a command that is no job, whoever has set LONGSTRAND_PROM.
    """
    if run.code == LOCK_HELD or run.command not in COMMANDS:
        return
    if folder is not None and folder.is_dir():
        _write(run, folder / "metrics.prom")
    if directory is not None:
        _write(run, directory / f"longstrand_{run.command}_{run.domain}.prom")
        if run.domain != "unknown":
            # Of a start so wrong that its domain stayed unknown; this run has taken its place.
            (directory / f"longstrand_{run.command}_unknown.prom").unlink(missing_ok=True)


def text(run: Finished, last_success: float | None) -> str:
    """The file's content; `last_success` is known from the run before."""
    lines = []
    named = {"command": run.command, "domain": run.domain}
    success = run.ended if run.code == 0 else last_success
    for name, labels, value in [
        ("longstrand_last_run_end_timestamp_seconds", {}, run.ended),
        ("longstrand_last_run_duration_seconds", {}, run.seconds),
        ("longstrand_last_run_exit_code", {}, run.code),
        *([] if success is None else [(_SUCCESS, {}, success)]),
        *_of_summary(run.summary),
    ]:
        head = [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
        lines += [] if head[0] in lines else head
        lines.append(f"{name}{{{_labels({**named, **labels})}}} {value!r}")
    return "\n".join(lines) + "\n"


def _of_summary(summary: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], Any]]:
    for key, name in _ROWS.items():
        if key in summary:
            yield name, {}, int(summary[key])
    if "promoted" in summary:
        yield "longstrand_last_run_promoted", {}, int(summary["promoted"])
    for labels, value in [*_metrics(summary.get("metrics", {})), *_compared(summary)]:
        yield "longstrand_last_run_metric", labels, float(value)


def _metrics(
    metrics: Mapping[str, float] | Sequence[Mapping[str, Any]],
) -> Iterator[tuple[dict[str, str], float]]:
    if isinstance(metrics, Mapping):
        yield from (({"metric": name}, value) for name, value in metrics.items())
    else:
        for row in metrics:
            labels = {key: str(row[key]) for key in ("metric", "model", "data", "protocol")}
            yield labels, row["value"]


def _compared(summary: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], float]]:
    """Of two models judged by one metric; there is no champion yet at the first."""
    for model in ("champion", "challenger"):
        value = summary.get(f"{model}_value")
        if value is not None:
            yield {"metric": summary["metric"], "model": model}, value


def _labels(labels: Mapping[str, str]) -> str:
    escaped = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return ",".join(f'{key}="{value.translate(escaped)}"' for key, value in labels.items())


def _write(run: Finished, path: Path) -> None:
    # Two scorings may end at once: each has a temporary name of its own.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text(run, _last_success(path)))
    os.replace(temporary, path)


def _last_success(path: Path) -> float | None:
    with contextlib.suppress(FileNotFoundError):
        found = re.search(rf"^{_SUCCESS}\{{.*\}} (\S+)$", path.read_text(), re.MULTILINE)
        return float(found.group(1)) if found else None
    return None
