"""One scoring: what a worker opens, and the folder in which results wait to be written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.contract import Partition, Scorer
from pipelines import build, runs
from pipelines.domains import load_domain

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ScoreJob:
    """Plain values, so that it travels to any worker.

    Args:
        settings: the domain's configuration.
        folder: the working directory, to which relative paths belong.
        work: the folder that workers share.
        threads: of torch in each worker; 0 is torch's choice.
    """

    bundle: Path
    settings: Any
    input: Path
    history: Path | None
    folder: Path
    work: Path
    threads: int

    def open(self) -> PartWorker:
        """A worker in this process."""
        from core.bundle import load_bundle

        os.chdir(self.folder)
        build.tune_process(self.threads)
        bundle = load_bundle(self.bundle)
        domain = load_domain(bundle.domain)
        source = domain.open(self.settings, "score", input=self.input, history=self.history)
        scorer = domain.task(self.settings).scorer(bundle, source)
        scorer.prepare(self.work)
        return PartWorker(scorer, self.work)


class PartWorker:
    """Scores partitions into files of the work folder: whole, or not there."""

    def __init__(self, scorer: Scorer, work: Path) -> None:
        self.scorer, self.work = scorer, work

    def score(self, part: Partition, before: Partition | None) -> int:
        """Rows scored."""
        state = None if before is None else _state_file(self.work, before).read_bytes()
        frame, after = self.scorer.score(part, state)
        if part.carries_state:
            _write_private(_state_file(self.work, part), after or b"")
        with runs.replacing(part_file(self.work, part)) as temporary:
            frame.write_parquet(temporary)
        return frame.height


def part_file(work: Path, part: Partition) -> Path:
    """Where the scores of a partition are once it is done."""
    return work / f"{part.key}.parquet"


def frames(work: Path, parts: Sequence[Partition]) -> Iterator[pl.DataFrame]:
    """Scores of all partitions in order."""
    import polars as pl

    for part in sorted(parts, key=lambda p: p.order):
        yield pl.read_parquet(part_file(work, part))


def _state_file(work: Path, part: Partition) -> Path:
    return work / f"{part.key}.state"


def _write_private(path: Path, data: bytes) -> None:
    # A state may hold events of everybody's: nobody else's to read.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(data)
