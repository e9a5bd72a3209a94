"""What was known on a day: files up to it, labels that had matured, a test nobody learned from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.errors import ConfigError, DataContractError, TooFewLabelsError
from domains.finance import domain
from domains.finance.config import FinanceConfig
from domains.finance.retraining import fraud_yardstick

DAY = date(2024, 2, 14)
DELAY = timedelta(days=7)
NOW = datetime(2024, 2, 14, tzinfo=UTC)


@pytest.fixture(scope="module")
def weekly(config: FinanceConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated town's transactions as one file a week."""
    folder = tmp_path_factory.mktemp("weekly")
    frame = pl.read_parquet(str(config.data.path))
    weeks = frame["time"].dt.truncate("1w").dt.date()
    for week in weeks.unique():
        frame.filter(weeks == week).write_parquet(folder / f"{week}.parquet")
    return folder


@pytest.fixture
def as_of(config: FinanceConfig, weekly: Path):
    """(day, folder) -> (task, source) as they were that day."""

    def make(day: date = DAY, folder: Path = weekly):
        split = replace(config.split, retrain_days=17, validation_days=3)
        data = replace(config.data, path=str(folder))
        then = domain.as_of(replace(config, data=data, split=split), day)
        return domain.task(then), domain.open(then, "train")

    return make


def test_weekly_files_are_one_stream(config: FinanceConfig, weekly: Path) -> None:
    whole = domain.open(config, "train").events
    parts = domain.open(replace(config, data=replace(config.data, path=str(weekly))), "train")
    assert parts.events.drop("row").equals(whole.drop("row"))
    assert parts.events["row"].to_list() == list(range(len(whole)))


def test_no_later_row_and_no_unknown_label_is_seen(as_of) -> None:
    _, source = as_of()
    time, label = source.events["time"], source.events["label"]
    assert time.max() < NOW
    assert label.filter(time > NOW - DELAY).null_count() == (time > NOW - DELAY).sum() > 0
    assert label.filter(time <= NOW - DELAY).null_count() == 0


def test_files_that_come_later_change_nothing(as_of, weekly: Path, tmp_path: Path) -> None:
    early = sorted(weekly.iterdir())[:6]
    for file in early:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    day = date(2024, 2, 12)
    (_, before), (_, after) = as_of(day, tmp_path), as_of(day)
    assert before.fingerprint() == after.fingerprint()
    assert before.events.equals(after.events)


def test_the_test_is_the_newest_matured_window(as_of) -> None:
    task, source = as_of()
    fold = task.challenge(source, []).fold
    times = {
        name: source.events.filter(pl.col("row").is_in(getattr(fold, name).implode()))["time"]
        for name in ("train", "validation", "test")
    }
    assert times["test"].max() < NOW - DELAY
    assert times["test"].min() >= NOW - DELAY - timedelta(days=17)
    assert times["validation"].max() + DELAY <= times["test"].min()
    assert times["train"].max() + DELAY <= times["validation"].min()


def test_days_that_the_champion_has_learned_from_do_not_judge(as_of) -> None:
    task, source = as_of()
    until = NOW - DELAY - timedelta(days=8)
    seen = [f"time:2024-01-01T00:00:00+00:00/{until.isoformat()}"]
    challenge = task.challenge(source, seen)
    time = source.events.filter(pl.col("row").is_in(challenge.fold.test.implode()))["time"]
    assert time.min() >= until
    fresh = source.events.filter(pl.col("row").is_in(challenge.fresh.implode()))["time"]
    assert fresh.min() >= until
    assert fresh.max() > NOW - DELAY
    with pytest.raises(TooFewLabelsError, match="no model has learned from"):
        task.challenge(source, [f"time:2024-01-01T00:00:00+00:00/{NOW.isoformat()}"])


def test_a_file_delivered_twice_is_refused(as_of, weekly: Path, tmp_path: Path) -> None:
    first = min(weekly.iterdir())
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).write_bytes(first.read_bytes())
    with pytest.raises(DataContractError, match=r"b\.parquet: .* delivered twice"):
        as_of(DAY, tmp_path)


def test_a_folder_without_files_is_refused(as_of, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found no file in \.parquet"):
        as_of(DAY, tmp_path)


def test_a_bundle_forgets_the_day(config: FinanceConfig) -> None:
    assert domain.carried(domain.as_of(config, DAY)).data.until is None


def test_the_yardstick_measures_slices_with_frauds_only() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(400) < 0.1).astype(np.int8)
    raw = label * 2 + rng.normal(size=400)
    predictions = pl.DataFrame(
        {
            "label": label,
            "raw": raw,
            "score": 1 / (1 + np.exp(2 - raw)),
            "day": [date(2024, 1, 1) + timedelta(days=int(i)) for i in np.arange(400) // 40],
            "amount": np.where(label == 1, rng.gamma(2, 50, 400), 10.0),
            "entity": np.arange(400) % 50,
        }
    )
    yardstick = fraud_yardstick(predictions)
    rows = np.ones(400)
    assert yardstick.figures["average_precision"](rows) > 0.3
    assert set(yardstick.slices) == {"low amounts", "first half", "second half"}
    perfect = fraud_yardstick(predictions.with_columns(score=pl.col("label").cast(pl.Float64)))
    assert perfect.calibration(rows) == 0 < yardstick.calibration(rows)
