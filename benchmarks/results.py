"""What every benchmark shares around its figures: settings, machine, result file and table."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from core.errors import ConfigError, LongstrandError
from core.memory import keep_freed_memory
from pipelines.runs import write_json

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "transformers")
Row = Mapping[str, Any]
Settings = TypeVar("Settings")


def settings(kind: type[Settings], arguments: Sequence[str]) -> Settings:
    """The dataclass `kind` with the fields that `key=value` arguments name.

    Raises ConfigError for a key that it doesn't have, or a value of another type than the default.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    chosen: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or key not in defaults:
            raise ConfigError(f"got {argument!r}, expected key=value with a key of {[*defaults]}")
        value, default = yaml.safe_load(text), defaults[key]
        if type(value) is not type(default):
            expected = type(default).__name__
            raise ConfigError(f"{key}: got {text!r}, expected {expected} such as {default!r}")
        chosen[key] = value
    return kind(**chosen)


def listed(text: str) -> list[str]:
    """The names of a list that is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def chosen(setting: str, text: str, known: Sequence[str]) -> list[str]:
    """The names that a list on the command line holds, all that are known where it is empty.

    Raises ConfigError for names that are not known.
    """
    wanted = listed(text)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ConfigError(f"{setting}: got {unknown}, expected some of {[*known]}")
    return wanted or [*known]


def usable(device: str) -> str:
    """The device. Raises ConfigError for one that a benchmark can't run on here."""
    known = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if device not in known:
        raise ConfigError(
            f"device: got {device!r}, expected one of {known}"
            + ("" if "cuda" in known else "; torch finds no CUDA GPU on this machine")
        )
    return device


def start(kind: type[Settings], benchmark: Callable[[Settings], None]) -> None:
    """Runs a benchmark on the command line's settings; a mistake in them is said, with exit 2.

    Freed memory stays with the process, as in the pipelines, for all sides of a comparison.
    """
    keep_freed_memory()
    try:
        benchmark(settings(kind, sys.argv[1:]))
    except LongstrandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def folder(quick: bool, out: str) -> Path:
    """Where a run writes: `out` where one is named; a quick run never replaces measured figures."""
    if out:
        return Path(out)
    return FOLDER / "quick" if quick else FOLDER


def machine() -> dict[str, Any]:
    """What the figures were taken on. `load` is the average of the last 1, 5 and 15 minutes."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    threads = torch.get_num_threads()
    return {"cpu": _cpu(), "threads": threads, "load": list(os.getloadavg()), "gpu": gpu}


def write(
    name: str,
    rows: Sequence[Row],
    began: Mapping[str, Any],
    device: str = "cpu",
    folder: Path = FOLDER,
) -> Path:
    """Writes `rows` with what is needed to judge them, and returns the file's path.

    Args:
        name: of the benchmark, `python -m benchmarks.NAME`.
        rows: flat, with plain JSON values; all seconds are medians.
        began: `machine()` before the first measurement; the load afterwards joins it.
        device: the file is NAME.json for "cpu", else NAME.DEVICE.json.
    """
    after = {**began, "load": {"before": began["load"], "after": list(os.getloadavg())}}
    path = folder / (f"{name}.json" if device == "cpu" else f"{name}.{device}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": after,
        "versions": {"python": platform.python_version(), **_versions()},
        "rows": [dict(row) for row in rows],
    }
    write_json(path, content)
    return path


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Rows as aligned text under their column names; floats with three significant digits."""
    lines = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:#.3g}".rstrip(".") if isinstance(value, float) else str(value)


def _cpu() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the code, '-dirty' where it was changed since; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _versions() -> dict[str, str]:
    """Versions of the packages that figures depend on, those that are installed."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
