"""What each part of the fraud model is worth: the same short training without it.

    python -m benchmarks.fraud_ablation [parts=card,terminal] [steps=400] [threads=1] [quick=true]
                                        [out=DIR]

Fraud Detection Handbook, every row of 2018-07-08 to 07-31 after learning from before 07-01, labels
known 7 days late: a month before the test rows of `benchmarks.fraud`, which stay unseen. From row
to row one thing is added: what the card did before; what happened at the terminal; which of those
events are known to be fraud by now; and, instead of the last 64 events of each, all of them (the
dense twin). All are trained for the same number of steps with the same seed, fewer than
`experiment=handbook` takes, so the figures compare parts and are not the model's. Intervals
resample days; differences from `labels`, the model as it is, resample cards, the same for both.
`quick=true` runs on a small simulation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import fraud_ours
from benchmarks.fraud_figures import paired_difference, whole_test
from benchmarks.results import chosen, folder, machine, start, table, write
from core.errors import ConfigError

MODEL = "labels"
SPLIT = (
    "experiment=handbook",
    "domain.split.train_before=2018-07-01",
    "domain.split.test_from=2018-07-08",
    "domain.split.test_until=2018-08-01",
)
TOWN = (
    "domain.data.customers=120",
    "domain.data.terminals=150",
    "domain.data.days=60",
    "domain.split.train_before=2024-02-10",
    "domain.split.test_from=2024-02-17",
    "domain.split.test_until=2024-03-01",
    "domain.split.validation_days=2",
)
COLUMNS = ("model", "metric", "value", "low", "high", "seconds_train")
Row = dict[str, Any]


def _views(*keys: str, labels: bool) -> str:
    stated = ",".join(f"{{key:[{key}],window:64,labels:{str(labels).lower()}}}" for key in keys)
    return f"domain.views=[{stated}]"


PARTS = {
    "card": (_views("customer", labels=False),),
    "terminal": (_views("customer", "terminal", labels=False),),
    MODEL: (_views("customer", "terminal", labels=True),),
    "dense": (_views("customer", "terminal", labels=True), "attention=dense"),
}
"""By name the overrides of a training, each with what the one before it has."""


@dataclass(frozen=True)
class Settings:
    """Options of the command line; `parts` is a list separated by commas, "" is all."""

    parts: str = ""
    steps: int = 400
    threads: int = 1
    quick: bool = False
    out: str = ""


def rows_of(data: str, judged: dict[str, pl.DataFrame], seconds: dict[str, Any]) -> Iterator[Row]:
    """Figures of each part, then its average precision minus the model's."""
    shared = {"data": data, "protocol": "a_month_earlier"}
    for name, frame in judged.items():
        for figure in whole_test([frame]):
            yield {**shared, "model": name, **asdict(figure), "seconds_train": seconds[name]}
    for name in [name for name in judged if name != MODEL and MODEL in judged]:
        metric = "average_precision_difference"
        figure = paired_difference(metric, [judged[name]], [judged[MODEL]])
        yield {**shared, "model": f"{name} - {MODEL}", **asdict(figure)}


@contextmanager
def _place(quick: bool) -> Iterator[Sequence[str]]:
    """Data and split; a simulation's runs last as long as the context."""
    if not quick:
        yield SPLIT
        return
    with tempfile.TemporaryDirectory() as runs:
        yield (*TOWN, f"runs={runs}")


def benchmark(settings: Settings) -> None:
    """Trains, prints and writes."""
    if settings.steps < 1:
        raise ConfigError(f"steps: got {settings.steps}, expected 1 or more")
    names = chosen("parts", settings.parts, list(PARTS))
    began, judged, seconds = machine(), {}, {}
    with _place(settings.quick) as place:
        shared = (*place, f"trainer.steps={settings.steps}", f"threads={settings.threads}")
        for name in names:
            bundle, seconds[name] = fraud_ours.trained([*shared, *PARTS[name]])
            kept = pl.read_parquet(Path(bundle).parent / "predictions.parquet")
            judged[name] = kept.filter(pl.col("label").is_not_null())
    rows = list(rows_of("simulated" if settings.quick else "handbook", judged, seconds))
    print(f"{settings.steps} steps each")
    print(table(rows, COLUMNS))
    place = folder(settings.quick, settings.out)
    print("wrote", write("fraud_ablation", rows, began, folder=place))


if __name__ == "__main__":
    start(Settings, benchmark)
