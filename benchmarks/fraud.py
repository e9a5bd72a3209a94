"""Our fraud model and what a fraud team would use instead, side by side on the same rows.

    python -m benchmarks.fraud [protocols=all_rows,book_week] [models=ours,lightgbm_49]
                              [bundle=DIR] [book_bundles=DIR,DIR] [threads=2] [quick=true]
                              [out=DIR]

Data of the Fraud Detection Handbook (docs/data.md), labels known 7 days late. `all_rows` learns
from before 2018-08-01 and judges all 517,457 rows of 2018-08-08 to 09-30; `book_week` is the book's
own split, where our figure is the mean of three seeds. Intervals resample days; differences of
average precision resample cards, the same for both. `bundle` and `book_bundles` reuse trained runs
of the two protocols. `seconds_train` holds the making of features, or for ours the whole command;
`per_second` goes from checked rows to scores. `quick=true` runs on a small simulation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import fraud_ours
from benchmarks.fraud_features import Events, extended_features, handbook_features, table
from benchmarks.fraud_figures import paired_difference, parts, whole_test
from benchmarks.fraud_models import RIVALS
from benchmarks.fraud_protocols import (
    HANDBOOK,
    QUICK,
    Protocol,
    Rows,
    configured,
    opened,
    rows_of,
)
from benchmarks.results import chosen, folder, listed, machine, start, write
from benchmarks.results import table as text_table
from domains.finance.config import FinanceConfig
from domains.finance.labelled import TransactionSource
from pipelines import build

OURS, SIMULATED = "ours", "simulated"
COLUMNS = ("model", "metric", "value", "low", "high", "seconds_train", "per_second")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; lists are separated by commas, "" is all."""

    protocols: str = ""
    models: str = ""
    bundle: str = ""
    book_bundles: str = ""
    threads: int = 1
    quick: bool = False
    out: str = ""

    def chosen(self, name: str, known: Sequence[str]) -> list[str]:
        return chosen(name, getattr(self, name), known)

    def bundles(self, protocol: Protocol) -> list[Path]:
        """Trained runs to reuse, none where there are none."""
        stated = self.book_bundles if protocol.name == "book_week" else self.bundle
        return [Path(path) for path in listed(stated)]


@dataclass(frozen=True)
class Entry:
    """A model's judged test rows, one frame a seed."""

    model: str
    judged: list[pl.DataFrame]
    seconds_train: float | None
    per_second: float


@dataclass
class Features:
    """By hand, made once for all rows: [n, 49], and the seconds of making the first 15 and all."""

    x: np.ndarray
    seconds: dict[int, float] = field(default_factory=dict)

    @staticmethod
    def of(source: TransactionSource) -> Features:
        began, events, delay = time.perf_counter(), Events.of(source), source.schema.label_delay
        first = handbook_features(events, delay)
        after, count = time.perf_counter() - began, len(first)
        x = table({**first, **extended_features(events, delay)})
        return Features(x, {count: after, x.shape[1]: time.perf_counter() - began})


@dataclass(frozen=True)
class Contest:
    """A protocol, its rows, and what its models read."""

    protocol: Protocol
    config: FinanceConfig
    data: str
    source: TransactionSource
    features: Features
    rows: Rows


def by_rival(contest: Contest, name: str, threads: int) -> Entry:
    """Fitted on the features of the training rows."""
    rival, rows, features = RIVALS[name], contest.rows, contest.features
    made, size = features.seconds[rival.features], contest.protocol.size
    label = contest.source.events["label"].to_numpy()[rows.train]
    began = time.perf_counter()
    fitted = rival.fit(size, 0, threads, features.x[rows.train], label)
    trained = time.perf_counter()
    score = rival.probability(fitted, threads, features.x[rows.test])
    predicted = time.perf_counter() - trained + made * len(rows.test) / len(features.x)
    frame = rows.judged.with_columns(pl.Series("raw", score), pl.Series("score", score))
    return Entry(name, [frame], made + trained - began, len(rows.test) / predicted)


def by_ours(contest: Contest, settings: Settings) -> Entry:
    """Every seed's bundle, trained first where none is given."""
    protocol = contest.protocol
    found: list[tuple[Path, float | None]] = [(path, None) for path in settings.bundles(protocol)]
    for seed in range(0 if found else protocol.seeds):
        overrides = [*_training(contest), f"seed={seed}", f"threads={settings.threads}"]
        found.append(fraud_ours.trained(overrides))
    judged, taken = zip(
        *(
            fraud_ours.judged(path, contest.config, contest.source, contest.rows)
            for path, _ in found
        ),
        strict=True,
    )
    known = [seconds for _, seconds in found if seconds is not None]
    mean = sum(known) / len(known) if known else None
    return Entry(OURS, list(judged), mean, len(contest.rows.test) * len(taken) / sum(taken))


def _training(contest: Contest) -> list[str]:
    """Overrides of the training; on a simulation its run lies beside the files."""
    stated = [*contest.protocol.overrides]
    if contest.data == SIMULATED:
        path = contest.source.path
        stated += ["domain.data.source=files", f"domain.data.path={path}"]
        stated += [f"domain.data.schema={SIMULATED}", f"runs={path.parent / 'runs'}"]
    return stated


def rows_by(contest: Contest, entries: Sequence[Entry]) -> Iterator[Row]:
    """A row for each figure of each model and seed, then ours minus each LightGBM."""
    shared = {"data": contest.data, "protocol": contest.protocol.name}
    for entry in entries:
        speed = {"seconds_train": entry.seconds_train, "per_second": entry.per_second}
        figures = [*whole_test(entry.judged)]
        if contest.protocol.name == "all_rows":
            figures += parts(entry.judged)
        for figure in figures:
            yield {**shared, "model": entry.model, **asdict(figure), **speed}
        for seed, frame in enumerate(entry.judged if len(entry.judged) > 1 else []):
            figure = next(whole_test([frame]))
            named = {"metric": f"{figure.metric}_seed_{seed}"}
            yield {**shared, "model": entry.model, **asdict(figure), **named, **speed}
    by_name = {entry.model: entry for entry in entries}
    for name in [name for name in by_name if name.startswith("lightgbm") and OURS in by_name]:
        figure = paired_difference(
            "average_precision_difference", by_name[OURS].judged, by_name[name].judged
        )
        yield {**shared, "model": f"{OURS} - {name}", **asdict(figure)}


def contests(protocols: Sequence[Protocol]) -> Iterator[Contest]:
    """All on the data of the first; its features are made once."""
    with opened(configured(protocols[0])) as (data, source):
        features = Features.of(source)
        for protocol in protocols:
            config = configured(protocol)
            rows = rows_of(protocol, config.split, data, source)
            yield Contest(protocol, config, data, source, features, rows)


def benchmark(settings: Settings) -> None:
    """Measures, prints and writes."""
    build.tune_process(settings.threads)
    known = {protocol.name: protocol for protocol in (QUICK if settings.quick else HANDBOOK)}
    protocols = [known[name] for name in settings.chosen("protocols", list(known))]
    models = settings.chosen("models", [OURS, *RIVALS])
    began, rows = machine(), list[Row]()
    for contest in contests(protocols):
        entries = []
        for name in models:
            if name == OURS:
                entries.append(by_ours(contest, settings))
            elif name in contest.protocol.rivals:
                entries.append(by_rival(contest, name, settings.threads))
        found = list(rows_by(contest, entries))
        frauds = contest.rows.judged["label"].sum()
        print(
            f"{contest.data}, {contest.protocol.name}: {len(contest.rows.train)} training rows, "
            f"{len(contest.rows.test)} test rows, {frauds} frauds"
        )
        print(text_table(found, COLUMNS))
        rows += found
    print("wrote", write("fraud", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
