"""Score a file: python -m pipelines.score bundle=DIR|NAME@ALIAS input=FILE output=FILE
[history=FILE]

Partitions are scored in order into <output>.parts/, so that a killed run goes on where it was;
the output is written under a temporary name and renamed. The same input and bundle give the
same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Partition, Scorer
from core.errors import ConfigError
from pipelines import build, cli, runs
from pipelines.domains import load_domain
from pipelines.registry import bundle_folder

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger("longstrand.score")


def score(config: DictConfig) -> dict[str, Any]:
    """One input file to one output file; returns the summary."""
    from core.bundle import load_bundle

    build.use_threads(config.threads)
    bundle = load_bundle(bundle_folder(config.bundle, config.registry))
    domain = load_domain(bundle.domain)
    settings = build.restored_config(domain, bundle.config, config.config)
    input, output = _file(config.input), Path(config.output)
    if output.is_dir() or output.resolve() == input.resolve():
        raise ConfigError(f"output: {output} must be a file name of its own")
    history = Path(config.history) if config.history else None
    source = domain.open(settings, "score", input=input, history=history)
    scorer = domain.task(settings).scorer(bundle, source)
    scorer.check(output)
    parts = source.partitions()
    output.parent.mkdir(parents=True, exist_ok=True)
    work = _work_folder(output, f"{bundle.version} {source.fingerprint()} {settings!r}")
    _score_parts(scorer, parts, work)
    summary = scorer.write(_frames(work, parts), output)
    shutil.rmtree(work)
    return {
        "command": "score",
        "domain": domain.name,
        "bundle": str(bundle.path),
        "model_version": bundle.version,
        **asdict(summary),
        "set_aside": build.distinct_rows(source.set_aside().collect()),
    }


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ConfigError(f"input: found {found} at {path}, expected one file")
    return path


def _work_folder(output: Path, identity: str) -> Path:
    """Finished parts of the same input, model and settings are kept; others are thrown away."""
    work = output.with_name(output.name + ".parts")
    digest = hashlib.sha256(identity.encode()).hexdigest()
    marker = work / "identity.json"
    if marker.is_file() and json.loads(marker.read_text()) == digest:
        return work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    runs.write_json(marker, digest)
    return work


def _score_parts(scorer: Scorer, parts: Sequence[Partition], work: Path) -> None:
    state: bytes | None = None
    for part in sorted(parts, key=lambda p: p.order):
        done, kept = _part_file(work, part), work / f"{part.key}.state"
        if done.is_file():
            state = kept.read_bytes() if part.carries_state else None
            continue
        frame, after = scorer.score(part, state if part.carries_state else None)
        if part.carries_state:
            _write_private(kept, after or b"")
        with runs.replacing(done) as temporary:
            frame.write_parquet(temporary)
        log.info("scored %s, %d rows", part.key, frame.height)
        state = after


def _write_private(path: Path, data: bytes) -> None:
    # A state holds recent events of everybody's: nobody else's to read.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(data)


def _frames(work: Path, parts: Sequence[Partition]) -> Iterator[pl.DataFrame]:
    import polars as pl

    for part in sorted(parts, key=lambda p: p.order):
        yield pl.read_parquet(_part_file(work, part))


def _part_file(work: Path, part: Partition) -> Path:
    return work / f"{part.key}.parquet"


def main() -> None:
    """Console script longstrand-score."""
    cli.run(score, "score")


if __name__ == "__main__":
    main()
