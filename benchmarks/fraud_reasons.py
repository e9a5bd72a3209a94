"""Whether the reasons of alerts are true, and whether they are the kind of fraud.

    python -m benchmarks.fraud_reasons [bundle=DIR] [alerts=400] [threads=1] [out=DIR]

Draws alerts among the test rows of a run (the bundle of a run folder; without one,
`experiment=handbook` is trained for 200 steps with 100 alerts a day) and counts, by kind of fraud,
the code of the first reason: the Fraud Detection Handbook makes frauds by amount (1), at a terminal
(2) and with a card's amounts five times as large (3); 0 is no fraud. Every number that a
reason states is looked up in the rows of the file, by other code than wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from omegaconf import OmegaConf

from benchmarks import fraud_ours
from benchmarks.results import folder, machine, start, table, write
from core.bundle import load_bundle, restore
from core.errors import ConfigError
from domains.finance import domain
from domains.finance.labelled import TransactionSource
from domains.finance.reasons import Explainer
from domains.finance.stream import DAY, KeyOrder
from pipelines import build

TRAINING = (
    "experiment=handbook",
    "domain.alerts.per_day=100",
    "trainer.steps=200",
    "trainer.average=0.98",
)
COLUMNS = ("kind", "code", "alerts", "reasons", "confirmed")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; `alerts` is how many are drawn."""

    bundle: str = ""
    alerts: int = 400
    threads: int = 1
    out: str = ""


class Facts:
    """What the file says of its rows, in time order."""

    def __init__(self, source: TransactionSource, windows: dict[str, int]) -> None:
        events = source.events
        self.windows, self.delay = windows, source.schema.label_delay
        self.time = events["time"].dt.epoch("us").to_numpy()
        self.fraud = (events["label"] == 1).fill_null(False).to_numpy()
        self.amount = events[f"number:{source.schema.amount}"].to_numpy()
        self.amount_name = source.schema.amount
        self.rows = {
            name: events.select(pl.int_range(pl.len()).alias("place"), f"entity:{name}")
            .group_by(f"entity:{name}")
            .agg("place")
            .rows_by_key(f"entity:{name}", unique=True)
            for name in windows
        }
        self.entities = {name: events[f"entity:{name}"].to_list() for name in windows}

    def before(self, name: str, place: int) -> np.ndarray:
        """Places of the entity's last events before, as many as its view shows."""
        own = np.array(self.rows[name][self.entities[name][place]][0])
        return own[own < place][-(self.windows[name] - 1) :]

    def confirms(self, text: str, place: int) -> bool | None:
        """Whether each number of the text is what the file says; None of other kinds of reason."""
        code, _, said = text.partition(": ")
        found = [float(number) for number in re.findall(r"\d+\.?\d*", said)]
        if code == self.amount_name:
            usual = np.median(self.amount[self.before(next(iter(self.windows)), place)])
            return np.allclose([found[0], found[-1]], [self.amount[place], usual], atol=0.0051)
        name, _, part = code.partition(" ")
        if part not in ("labels", "history"):
            return None
        before = self.before(name, place)
        ages = self.time[place] - self.time[before]
        if part == "history":
            return found[:2] == [np.sum(ages < DAY), np.sum(ages < 14 * DAY)]
        known = ages[self.fraud[before] & (ages >= self.delay)] // DAY
        low, high = known.min(initial=10**6), known.max(initial=-1)
        expected = [len(known), len(before), low, *([high] if high > low else [])]
        return found == expected


def counted(drawn: pl.DataFrame, facts: Facts) -> Iterator[Row]:
    """By kind and code of the first reason how many alerts; then by code how many reasons in all
    and how many of them the file confirms.

    Args:
        drawn: columns place, kind, reasons (list of text).
    """
    first = drawn.with_columns(code=pl.col("reasons").list.first().str.split(": ").list.first())
    by_kind = first.group_by("kind", "code").agg(alerts=pl.len())
    yield from by_kind.sort("kind", "alerts", descending=[False, True]).iter_rows(named=True)
    each = drawn.explode("reasons").filter(pl.col("reasons").is_not_null())
    told = [
        (text.split(": ")[0], facts.confirms(text, place))
        for place, text in each.select("place", "reasons").iter_rows()
    ]
    for code in sorted({code for code, _ in told}):
        checked = [true for name, true in told if name == code and true is not None]
        count = sum(name == code for name, _ in told)
        confirmed = sum(checked) if checked else None
        yield {"kind": "any", "code": code, "reasons": count, "confirmed": confirmed}


def drawn_alerts(bundle_path: Path, alerts: int) -> tuple[pl.DataFrame, Facts]:
    """Alerts of the run's test rows, drawn at random, with their reasons.

    Raises:
        ConfigError: the run decided no alerts.
    """
    bundle = load_bundle(bundle_path)
    # A bundle of before the schema named kinds has alerts and reasons too.
    handbook = OmegaConf.create({"data": {"schema": "handbook"}})
    settings = build.restored_config(domain, bundle.config, handbook)
    predictions = pl.read_parquet(bundle_path.parent / "predictions.parquet")
    if "alert" not in predictions.columns:
        raise ConfigError(
            f"bundle: found {bundle_path}, whose run decided no alerts, expected one trained with "
            "domain.alerts.per_day=100 or another budget"
        )
    source, task = domain.open(settings, "train"), domain.task(settings)
    assert isinstance(source, TransactionSource)
    tokenizer, module = restore(bundle, task)
    chosen = predictions.filter("alert").select("row")
    chosen = chosen.sample(min(alerts, len(chosen)), seed=0)
    rows = source.events.select("row", "kind").with_row_index("place")
    places = rows.filter(pl.col("row").is_in(chosen["row"].implode()))
    stream = tokenizer.encode(source.events, task.view_entities()).after(None)
    orders = [KeyOrder.of(stream.keys[:, v]) for v in range(len(settings.views))]
    explainer = Explainer(module, tokenizer, settings.views, source.schema.label_delay)
    told = explainer.reasons(stream, orders, places["place"].to_numpy())
    reasons = pl.Series("reasons", [[text for text in texts if text] for texts in told])
    windows = {view.key[0]: view.window or len(stream) + 1 for view in settings.views if view.key}
    return places.select("place", "kind").with_columns(reasons), Facts(source, windows)


def benchmark(settings: Settings) -> None:
    """Trains where no bundle is given, prints and writes."""
    began = machine()
    torch.set_num_threads(settings.threads)
    bundle = Path(settings.bundle) if settings.bundle else fraud_ours.trained(TRAINING)[0]
    rows = list(counted(*drawn_alerts(bundle, settings.alerts)))
    print(table(rows, COLUMNS))
    print("wrote", write("fraud_reasons", rows, began, folder=folder(False, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
