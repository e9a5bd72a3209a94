"""Anomalies without labels: our surprise beside what a team would take off the shelf.

    python -m benchmarks.surprise [models=ours,isolation_forest_15] [bundle=DIR] [threads=2]
                                  [quick=true] [out=DIR]

Data of the Fraud Detection Handbook (docs/data.md), learned from before 2018-08-01, every row of
2018-08-08 to 09-30 judged. No model reads a label; labels judge. Isolation forest (Liu, Ting & Zhou
2008) and ECOD (Li et al. 2022) read features made by hand without labels: 15 (amount, weekend,
night, counts and mean amounts of card and terminal over 1, 7 and 30 days), or those and 9 that put
the amount against its card's own past. `amount` is the amount itself, `amount_z` how many standard
deviations it lies above the mean of its card's past: rules for who knows where frauds are.
Intervals resample days. `bundle` reuses a trained run of experiment=handbook_surprise. `quick=true`
runs on a small simulation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from benchmarks import fraud_ours
from benchmarks.fraud_features import Events, amount_against_past, table
from benchmarks.fraud_figures import whole_test
from benchmarks.fraud_models import LARGE
from benchmarks.fraud_protocols import TOWN, Protocol, Rows, configured, opened, rows_of
from benchmarks.results import chosen, folder, machine, start, write
from benchmarks.results import table as text_table
from core.errors import ConfigError
from domains.finance.past import Past
from domains.finance.stream import DAY
from pipelines import build

OURS = "ours"
PROTOCOL = Protocol("no_labels", ("experiment=handbook_surprise",), False, 1, LARGE, ())
QUICK = Protocol(
    "no_labels", (*TOWN, "task=surprise", "domain.split.validation_days=2"), False, 1, LARGE, ()
)
COLUMNS = ("model", "metric", "value", "low", "high", "seconds_train", "per_second")
FIGURES = ("average_precision", "roc_auc", "card_precision_100")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line; lists are separated by commas, "" is all."""

    models: str = ""
    bundle: str = ""
    threads: int = 1
    quick: bool = False
    out: str = ""


def unlabelled_features(events: Events) -> dict[str, np.ndarray]:
    """24 columns [n]: 15 of amount, calendar and both entities' counts and mean amounts over 1, 7
    and 30 days, then 9 that put the amount against its card's past; 0 where there is none."""
    # 1970-01-01 was a Thursday.
    weekday, hour = (events.time // DAY + 3) % 7, events.time // (DAY // 24) % 24
    found = {"amount": events.amount, "weekend": weekday >= 5, "night": hour <= 6}
    card = Past(events.card, events.time)
    for name, past in (("card", card), ("terminal", Past(events.terminal, events.time))):
        for days in (1, 7, 30):
            count, mean = past.count_and_mean(events.amount, past.known(days * DAY), past.here + 1)
            found |= {f"{name}_count_{days}d": count, f"{name}_amount_{days}d": mean}
    against = amount_against_past(card, events.amount)
    return found | {name: np.nan_to_num(values) for name, values in against.items()}


def isolation_forest(x: np.ndarray, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """scikit-learn's, with its own settings: 100 trees on 256 rows each."""
    from sklearn.ensemble import IsolationForest

    fitted = IsolationForest(random_state=0, n_jobs=threads).fit(x)
    return lambda judged: -fitted.score_samples(judged)


def ecod(x: np.ndarray, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """PyOD's.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pyod.models.ecod import ECOD
    except ImportError as error:
        raise ConfigError(
            'models: pyod is not installed; install the extra: pip install "longstrand[bench]"'
        ) from error
    return ECOD(n_jobs=threads).fit(x).decision_function


RIVALS = {
    f"{name}_{features}": (fit, features)
    for features in (15, 24)
    for name, fit in (("isolation_forest", isolation_forest), ("ecod", ecod))
}
RULES = {"amount": "amount", "amount_z": "amount_z_all"}


def by_rival(name: str, features: dict[str, np.ndarray], rows: Rows, threads: int) -> Row:
    """Scores [len(rows.test)] and what they took, the making of features not among it."""
    fit, count = RIVALS[name]
    x = table(dict(list(features.items())[:count]))
    began = time.perf_counter()
    with threadpool_limits(threads):
        score = fit(x[rows.train], threads)
        trained = time.perf_counter()
        raw = score(x[rows.test])
    predicted = time.perf_counter() - trained
    return {
        "raw": raw,
        "seconds_train": trained - began,
        "per_second": len(rows.test) / predicted,
    }


def entries(settings: Settings, models: list[str]) -> Iterator[tuple[str, str, pl.DataFrame, Row]]:
    """Data, model, judged rows and speed of every model."""
    protocol = QUICK if settings.quick else PROTOCOL
    config = configured(protocol)
    with opened(config) as (data, source):
        rows = rows_of(protocol, config.split, data, source)
        features = unlabelled_features(Events.of(source))
        for model in models:
            speed: Row = {"seconds_train": None, "per_second": None}
            if model == OURS:
                path, seconds = _trained(settings, protocol, data, source.path)
                judged, taken = fraud_ours.judged(path, config, source, rows)
                raw = judged["score"]
                speed = {"seconds_train": seconds, "per_second": len(rows.test) / taken}
            elif model in RULES:
                raw = pl.Series(features[RULES[model]][rows.test], dtype=pl.Float64)
            else:
                found = by_rival(model, features, rows, settings.threads)
                raw = pl.Series(found.pop("raw"), dtype=pl.Float64)
                speed = found
            yield data, model, rows.judged.with_columns(raw=raw, score=raw), speed


def _trained(
    settings: Settings, protocol: Protocol, data: str, path: Path
) -> tuple[Path, float | None]:
    if settings.bundle:
        return Path(settings.bundle), None
    overrides = [*protocol.overrides, f"threads={settings.threads}"]
    if data == "simulated":
        overrides += ["domain.data.source=files", f"domain.data.path={path}"]
        overrides += ["domain.data.schema=simulated", f"runs={path.parent / 'runs'}"]
    return fraud_ours.trained(overrides)


def benchmark(settings: Settings) -> None:
    """Measures, prints and writes."""
    build.tune_process(settings.threads)
    models = chosen("models", settings.models, [OURS, *RIVALS, *RULES])
    began, found = machine(), list[Row]()
    for data, model, judged, speed in entries(settings, models):
        shared = {"data": data, "protocol": PROTOCOL.name, "model": model}
        figures = [f for f in whole_test([judged]) if f.metric in FIGURES]
        found += [{**shared, **asdict(figure), **speed} for figure in figures]
    print(text_table(found, COLUMNS))
    print("wrote", write("surprise", found, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
