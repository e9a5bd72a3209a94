"""Three months of a simulated town, delivered as one file a week."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from domains.finance.config import FinanceData
from domains.finance.simulate import simulate_transactions
from pipelines.registry import Registry
from pipelines.registry.folder import FolderStore
from pipelines.retrain import audit
from tests.pipelines import commands

VIEWS = "domain.views=[{key:[customer],window:16},{key:[terminal],window:32}]"
# One head a view learns faster with keys of its own.
MEMORY = "domain.memory=per_head"
SIZES = ("model.dim=16", "model.layers=1", "model.heads=2", "domain.batch_size=32")
SMALL = (*SIZES, MEMORY, VIEWS)
WEEKS = 13


@dataclass(frozen=True)
class Town:
    """A place where files arrive and a model is retrained."""

    home: Path
    weeks: list[tuple[str, pl.DataFrame]]

    @property
    def inbox(self) -> Path:
        return self.home / "inbox"

    @property
    def runs(self) -> Path:
        return self.home / "runs" / "finance" / "retrain" / "fraud"

    @property
    def registry(self) -> Registry:
        return Registry(FolderStore(self.home / "models"))

    def deliver(self, last: str, changed: pl.Expr | None = None) -> None:
        """The files up to the week of that Monday; the new ones perhaps with a changed column."""
        self.inbox.mkdir(exist_ok=True)
        for week, frame in self.weeks:
            path = self.inbox / f"{week}.csv"
            if week <= last and not path.exists():
                (frame if changed is None else frame.with_columns(changed)).write_csv(path)

    def start(self, day: str, *arguments: str, **environment: str) -> commands.Started:
        where = (f"domain.data.path={self.inbox}", f"runs={self.home}/runs")
        split = ("domain.split.retrain_days=14", "domain.split.validation_days=4")
        return commands.start(
            self.home / "commands",
            "retrain",
            "domain=finance",
            "domain.data.source=files",
            "domain.data.schema=simulated",
            f"registry.root={self.home}/models",
            f"as_of={day}",
            "logger=none",
            "threads=1",
            "gate.repeats=200",
            *where,
            *split,
            *SMALL,
            *arguments,
            **environment,
        )

    def retrain(self, day: str, *arguments: str, **environment: str) -> commands.Outcome:
        return self.start(day, *arguments, **environment).outcome()

    def champion(self) -> int | None:
        """Its number, after a look at every byte of every version."""
        if not self.registry.names():
            return None
        assert self.registry.verify("fraud") == {}
        version = self.registry.alias("fraud", "champion")
        return None if version is None else version.number

    def record(self) -> list[tuple[str, str]]:
        """Event and day of every line of the audit record."""
        lines = audit.read(self.runs / "audit.jsonl")
        return [(line["event"], line["as_of"]) for line in lines]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    frame = simulate_transactions(FinanceData(customers=60, terminals=90, days=7 * WEEKS, seed=5))
    weeks = frame["time"].dt.truncate("1w").dt.date()
    return Town(tmp_path, [(str(w), frame.filter(weeks == w)) for w in weeks.unique().sort()])
