"""Source, task and scorer of the toy domain."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from core.attention import Pattern
from core.attention.auto import Workload
from core.bundle import restore
from core.calibration import Calibration
from core.contract import Challenge, Fold, Metric, Panel, Partition, Summary, Yardstick
from core.errors import ConfigError
from core.model.encoder import EncoderConfig, SparseEncoder
from core.training.loader import WHOLE, Share, StepLoader, generator_at
from core.training.module import SequenceModule


class ToySource:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.frame = pl.read_csv(path).with_row_index("row").with_columns(pl.col("row").cast(int))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def rows(self) -> pl.LazyFrame:
        return self.frame.lazy().select("row", pl.col("y").alias("label"))

    def set_aside(self) -> pl.LazyFrame:
        names = ("file", "row", "column", "found", "expected")
        return pl.LazyFrame(schema=dict.fromkeys(names, pl.String))

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        return self.frame[rows.to_list()].drop("row", "y")

    def inputs(self, rows: pl.Series) -> Tensor:
        x = self.frame[rows.to_list()].select(pl.col(r"^x\d+$"))
        return torch.from_numpy(x.to_numpy().astype(np.float32))


class ToyTokenizer:
    def __init__(self, mean: float) -> None:
        self.mean = mean

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}


class ToyModule(SequenceModule):
    def __init__(self, encoder: EncoderConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(1, encoder.dim)
        self.encoder = SparseEncoder(encoder)
        self.head = nn.Linear(encoder.dim, 1)

    def forward(self, x_BN: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x_BN[..., None]))).mean(1).squeeze(-1)

    def loss(self, batch: Any) -> Tensor:
        journal = os.environ.get("TOY_JOURNAL")
        if journal:
            with open(journal, "a") as f:
                f.write(json.dumps([batch["step"], batch["rows"]]) + "\n")
        return self.mean(((self(batch["x"]) - batch["y"]) ** 2).sum(), len(batch["y"]))


class ToyTask:
    name = "sum"

    def folds(self, source: ToySource) -> Sequence[Fold]:
        row = source.frame["row"]
        odd, even = row.filter(row % 2 == 1), row.filter(row % 2 == 0)
        return [Fold("even", odd[4:], odd[:4], even), Fold("all", row[4:], row[:4], row.clear())]

    def fit_tokenizer(self, source: ToySource, rows: pl.Series) -> ToyTokenizer:
        return ToyTokenizer(float(source.frame[rows.to_list()]["y"].mean()))  # type: ignore[arg-type]

    def take_over(self, bundle: Any, source: ToySource, rows: pl.Series) -> Any:
        return self.load_tokenizer(bundle.tokenizer, bundle.config), bundle.state_dict()

    def load_tokenizer(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> ToyTokenizer:
        return ToyTokenizer(state["mean"])

    def loader(
        self, source: ToySource, tokenizer: ToyTokenizer, rows: pl.Series, seed: int, steps: int
    ) -> StepLoader:
        def batch_at(step: int, share: Share = WHOLE) -> dict[str, Any]:
            pick = torch.randint(len(rows), (4,), generator=generator_at(seed, step)).tolist()
            chosen = rows.gather(share.of(pick))
            y = torch.tensor(source.frame[chosen.to_list()]["y"].to_list()) - tokenizer.mean
            return {
                "x": source.inputs(chosen),
                "y": y,
                "step": step,
                "rows": chosen.to_list(),
                "tokens": 8 * len(y),
            }

        return StepLoader(batch_at, steps)

    def module(self, tokenizer: ToyTokenizer, encoder: EncoderConfig) -> ToyModule:
        return ToyModule(encoder)

    def workload(self, source: ToySource, encoder: EncoderConfig) -> Workload:
        return encoder.workload(source.inputs(source.frame["row"][:1]).shape[1], 4)

    def objection(self, pattern: Pattern) -> str | None:
        return None

    @torch.no_grad()
    def predict(
        self, module: ToyModule, source: ToySource, tokenizer: ToyTokenizer, rows: pl.Series
    ) -> pl.DataFrame:
        raw = module(source.inputs(rows)).double() + tokenizer.mean
        label = source.frame[rows.to_list()]["y"]
        return pl.DataFrame({"row": rows, "label": label, "raw": raw.numpy()})

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        return Calibration()

    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        return scored

    def metrics(self, source: ToySource, predictions: pl.DataFrame) -> list[Metric]:
        error = float((predictions["score"] - predictions["label"]).abs().mean())  # type: ignore[arg-type]
        return [Metric("toy", "even", "ours", "mean_absolute_error", error, error, error)]

    def parts(self, source: ToySource, predictions: pl.DataFrame) -> list[Metric]:
        return []

    def floors(
        self, source: ToySource, fold: Fold, encoder: EncoderConfig
    ) -> Mapping[str, pl.DataFrame]:
        frame = source.frame[fold.test.to_list()].select("row", pl.col("y").alias("label"))
        return {"zero": frame.with_columns(pl.lit(0.0).alias("raw"))}

    def label_intervals(self, source: ToySource, fold: Fold) -> list[str]:
        return [f"row:{r}-{r + 1}" for r in [*fold.train, *fold.validation]]

    def seen_rows(self, source: ToySource, intervals: Sequence[str]) -> pl.Series:
        seen = [int(i.removeprefix("row:").split("-")[0]) for i in intervals]
        return source.frame["row"].filter(source.frame["row"].is_in(seen))

    def in_service(self, source: ToySource, intervals: Sequence[str]) -> None:
        return None

    def challenge(self, source: ToySource, seen: Sequence[str]) -> Challenge:
        fold, known = self.folds(source)[0], self.seen_rows(source, seen)
        new = source.frame["row"].filter(~source.frame["row"].is_in(known.implode()))
        test = fold.test.filter(fold.test.is_in(new.implode()))
        return Challenge(replace(fold, test=test), new)

    def yardstick(self, source: ToySource, predictions: pl.DataFrame) -> Yardstick:
        error = (predictions["score"] - predictions["label"]).abs().to_numpy()
        return Yardstick(
            figures={"closeness": lambda weight: -float(np.average(error, weights=weight))},
            calibration=lambda weight: float(np.average(error, weights=weight)),
            groups=predictions["row"].to_numpy(),
            slices={},
        )

    def scorer(self, bundle: Any, source: ToySource) -> ToyScorer:
        return ToyScorer(self, bundle, source)

    def panels(self, source: ToySource, predictions: pl.DataFrame) -> list[Panel]:
        return [Panel("Label and score", "scatter", predictions, "label", "score")]


class ToyScorer:
    """Carries the number of rows scored so far as its state."""

    def __init__(self, task: ToyTask, bundle: Any, source: ToySource) -> None:
        self.source = source
        self.tokenizer, self.module = restore(bundle, task)
        self.task = task

    def check(self, out: Path) -> None:
        if out.suffix != ".csv":
            raise ConfigError(f"{out}: expected a name that ends in .csv")

    def prepare(self, work: Path) -> Sequence[Partition]:
        return [Partition(f"part-{i}", i, carries_state=True) for i in range(4)]

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        journal = os.environ.get("TOY_JOURNAL")
        if journal:
            with open(journal, "a") as f:
                f.write(part.key + "\n")
        if os.environ.get("TOY_FAIL_AT") == part.key:
            raise RuntimeError("stopped by the test")
        row = self.source.frame["row"]
        mine = row.filter(row * 4 // len(row) == part.order)
        before = int(state or b"0")
        frame = self.task.predict(self.module, self.source, self.tokenizer, mine)
        frame = frame.with_columns(pl.lit(before).alias("scored_before"))
        return frame, str(before + len(mine)).encode()

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        frame = pl.concat(scored)
        frame.write_csv(out.with_suffix(".partial"))
        os.replace(out.with_suffix(".partial"), out)
        return Summary(self.source.frame.height, frame.height, {}, [str(out)])
