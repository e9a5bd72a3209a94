"""Run folders: where they are, who holds one, and which one to go on with.

runs/<domain>/<run id>/ holds bundle/, metrics.json, predictions.parquet, report.html,
config.yaml, checkpoints/ and train.log; runs/<domain>/latest points at the newest finished one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from core.errors import ConfigError
from pipelines import locks
from pipelines.log import Plain

log = logging.getLogger("longstrand.runs")

RUN_ID = "LONGSTRAND_RUN_ID"
ABANDONED = "abandoned"
_NOT_PART_OF_THE_RUN = ("resume", "runs", "threads", "prom")


class DataChanged(ConfigError):
    """A run to resume had other data."""


@dataclass(frozen=True)
class Run:
    """One run folder. `created` comes from the run id, so that a resumed run keeps it."""

    path: Path
    created: str
    resumed: bool

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"


def run_id() -> str:
    """The id of this process's run. Children inherit it through the environment."""
    if RUN_ID not in os.environ:
        launcher = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        os.environ[RUN_ID] = launcher if launcher != "none" else f"{now}-{os.getpid()}"
    return os.environ[RUN_ID]


def config_hash(config: DictConfig) -> str:
    """Equal for two commands that would do the same work."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    kept = {k: v for k, v in plain.items() if k not in _NOT_PART_OF_THE_RUN}
    if "trainer" in kept:  # how many processes train changes no batch
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k != "strategy"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def open_run(config: DictConfig, domain: str, suffix: str = "") -> Run:
    """The run folder to resume, or a new one.

    `resume=auto` takes the newest unfinished run of the same configuration, or starts one;
    `resume=PATH` that run; `resume=no` always starts one.

    Raises:
        ConfigError: the run at PATH has another configuration, or is finished.
    """
    wanted = config_hash(config)
    if config.resume == "auto":
        found = _newest_unfinished(Path(config.runs) / domain, wanted)
        return _reopen(found) if found is not None else new_run(config, domain, suffix)
    if config.resume != "no":
        return _reopen(_checked(Path(config.resume), wanted))
    return new_run(config, domain, suffix)


def new_run(config: DictConfig, domain: str, suffix: str = "") -> Run:
    """A run folder of its own.

    Raises:
        ConfigError: the run id has been used before.
    """
    root, wanted = Path(config.runs) / domain, config_hash(config)
    path = root / f"{run_id()}{suffix}"
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already; {RUN_ID} must name a new run, or say resume={path} to go on "
            "with that one"
        ) from None
    created = datetime.now(UTC).isoformat(timespec="seconds")
    write_text(path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    write_json(path / "run.json", {"config": wanted, "created": created})
    return Run(path, created, resumed=False)


def check_data(run: Run, fingerprint: str) -> None:
    """Note the data of a new run; a resumed one must have the same.

    Raises:
        DataChanged: the fold models that are there were trained on other data.
    """
    noted = run.path / "data.json"
    if not noted.exists():
        write_json(noted, fingerprint)
    elif json.loads(noted.read_text()) != fingerprint:
        (run.path / ABANDONED).touch()
        raise DataChanged(
            f"{run.path}: the data has changed since this run began, so it cannot go on; "
            "resume=no starts anew"
        )


def finish(run: Run) -> None:
    """Point `latest` at this run, in one step."""
    link = run.path.parent / "latest"
    temporary = run.path.parent / f".latest-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(run.path.name)
    os.replace(temporary, link)


@contextlib.contextmanager
def held(run: Run) -> Iterator[None]:
    """Hold the run folder; the kernel lets go when the process ends, however it ends."""
    refusal = (
        f"{run.path}: another process is training in this run folder; wait for it, or start a run "
        "of your own with resume=no"
    )
    with locks.held(run.path / ".lock", refusal):
        yield


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Copy the log into a file of the run folder: whole, also where a program that calls this one
    as a library logs warnings only. What else it has the log go to gets no more than before."""
    handler = logging.FileHandler(path)
    handler.setFormatter(Plain())
    root = logging.getLogger()
    level, others = root.level, [(one, one.level) for one in root.handlers]
    for one, own in others:
        one.setLevel(max(own, level))
    root.setLevel(min(level, logging.INFO))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        root.setLevel(level)
        for one, own in others:
            one.setLevel(own)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, renamed to `path` at the end: whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    yield temporary
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _newest_unfinished(root: Path, wanted: str) -> Path | None:
    runs = [p for p in root.glob("*/run.json") if not p.parent.is_symlink()]
    for marker in sorted(runs, key=lambda p: p.stat().st_mtime, reverse=True):
        folder = marker.parent
        finished = any((folder / name).exists() for name in ("report.html", ABANDONED))
        if not finished and json.loads(marker.read_text())["config"] == wanted:
            return folder
    return None


def _checked(path: Path, wanted: str) -> Path:
    marker = path / "run.json"
    if not marker.is_file():
        raise ConfigError(f"resume: {path} is no run folder (it has no run.json)")
    if json.loads(marker.read_text())["config"] != wanted:
        raise ConfigError(
            f"resume: {path} was started with another configuration (its config.yaml says which); "
            "give the same overrides, or resume=no to start anew"
        )
    if (path / "report.html").exists():
        raise ConfigError(f"resume: {path} is finished; resume=no starts a new run")
    return path


def _reopen(path: Path) -> Run:
    log.info("resuming %s", path)
    return Run(path, json.loads((path / "run.json").read_text())["created"], resumed=True)
