"""A third domain, as small as the contract allows: numbers whose label is their windowed sum.

The tests copy this folder to domains/toy of a copy of the project and toy.yaml to conf/domain/:
that is all a new domain needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any


@dataclass
class ToyData:
    source: str = "simulated"
    path: str = ""


@dataclass
class ToyConfig:
    name: str = "toy"
    data: ToyData = field(default_factory=ToyData)
    rows: int = 60
    length: int = 8


class ToyDomain:
    name = "toy"
    config = ToyConfig

    def open(
        self,
        config: ToyConfig,
        purpose: str,
        *,
        input: Path | None = None,
        history: Path | None = None,
    ) -> Any:
        from domains.toy.task import ToySource

        return ToySource(input if input is not None else Path(config.data.path))

    def inputs(self, config: ToyConfig, input: Path) -> None:
        """Each is one file."""

    def task(self, config: ToyConfig) -> Any:
        from domains.toy.task import ToyTask

        return ToyTask()

    def simulate(self, config: ToyConfig, out: Path) -> None:
        import numpy as np
        import polars as pl

        rng = np.random.default_rng(0)
        x = rng.normal(size=(config.rows, config.length)).round(3)
        frame = pl.DataFrame(x, schema=[f"x{i}" for i in range(config.length)], orient="row")
        out.mkdir(parents=True)
        frame.with_columns(pl.sum_horizontal(pl.all()).alias("y")).write_csv(out / "toy.csv")

    def simulated(self, config: ToyConfig, out: Path) -> ToyConfig:
        return replace(config, data=ToyData("files", str(out / "toy.csv")))

    def as_of(self, config: ToyConfig, day: date) -> ToyConfig:
        return config

    def restored(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same: no word has changed."""
        return saved

    def carried(self, config: ToyConfig) -> ToyConfig:
        path = str(Path(config.data.path).resolve())
        return replace(config, data=replace(config.data, path=path))


domain = ToyDomain()
