"""Back-tests: what a model of the time would have said, week by week."""

from __future__ import annotations

import signal
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from core.bundle import load_bundle
from domains.finance.config import FinanceData
from domains.finance.simulate import simulate_transactions
from pipelines.backtest.weeks import stretches
from pipelines.retrain.stages import KILL_AT
from tests.pipelines import commands
from tests.pipelines.retrain.conftest import SMALL

DELAY = timedelta(days=7)
START = date(2024, 2, 5)
RETRAINED = date(2024, 3, 4)
WALK = ("backtest=weekly", "backtest.retrain=monthly", "backtest.trainer.steps=5")
SPLIT = (
    "train_before=2024-01-29",
    "test_from=2024-02-05",
    "test_until=2024-02-12",
    "validation_days=4",
    "retrain_days=14",
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three months of transactions, and a bundle trained on the first four weeks."""
    home = tmp_path_factory.mktemp("town")
    frame = simulate_transactions(FinanceData(customers=60, terminals=90, days=90, seed=5))
    frame.write_parquet(home / "transactions.parquet")
    trained = commands.start(
        home / "commands",
        "train",
        "domain=finance",
        "domain.data.source=files",
        "domain.data.schema=simulated",
        f"domain.data.path={home}/transactions.parquet",
        f"runs={home}/runs",
        "logger=none",
        "trainer.steps=5",
        *(f"domain.split.{setting}" for setting in SPLIT),
        *SMALL,
    ).outcome()
    assert trained.code == 0, trained.stderr
    return home


def walk(town: Path, place: Path, *arguments: str, **environment: str) -> commands.Outcome:
    bundle = f"bundle={town}/runs/finance/latest/bundle"
    asked = (bundle, f"runs={place}/runs", "threads=1", *arguments)
    return commands.start(place / "commands", "evaluate", *asked, **environment).outcome()


@pytest.fixture(scope="module")
def walked(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished back-test."""
    outcome = walk(town, tmp_path_factory.mktemp("whole"), *WALK)
    assert outcome.code == 0, outcome.stderr
    assert (outcome.summary["weeks"], outcome.summary["trained"]) == (8, 1)
    return Path(outcome.summary["run"])


def test_every_week_has_its_figures_beside_the_frozen_model_and_the_floors(walked: Path) -> None:
    metrics = pl.read_json(walked / "metrics.json")
    weeks = [f"week {START + timedelta(days=7 * k)}" for k in range(8)]
    assert metrics["protocol"].unique(maintain_order=True).to_list() == ["all weeks", *weeks]
    models = {"ours", "frozen", "amount", "logistic_regression"}
    assert set(metrics["model"]) == models
    assert metrics.group_by("model", "protocol").len()["len"].n_unique() == 1
    page = (walked / "report.html").read_text()
    assert "average_precision by week" in page and "2024-03-25" in page


def test_the_model_of_a_month_knows_only_what_was_known_when_it_began(walked: Path) -> None:
    for day, same in ((START, True), (RETRAINED, False)):
        ours, frozen = (
            pl.read_parquet(walked / str(day) / f"{name}.parquet") for name in ("ours", "frozen")
        )
        assert ours["raw"].equals(frozen["raw"]) == same
    bundle = load_bundle(walked / str(RETRAINED) / "bundle")
    for interval in bundle.label_intervals:
        end = datetime.fromisoformat(interval.split("/")[1])
        assert (end + DELAY).date() <= RETRAINED


def test_what_comes_later_changes_nothing_that_was_learned(
    town: Path, walked: Path, tmp_path: Path
) -> None:
    frame = pl.read_parquet(town / "transactions.parquet")
    later = pl.col("time").dt.date() >= RETRAINED
    young = pl.col("time").dt.date() >= RETRAINED - DELAY
    frame.with_columns(
        amount=pl.when(later).then(pl.col("amount") * 7).otherwise("amount"),
        fraud=pl.when(young).then(1 - pl.col("fraud")).otherwise("fraud"),
    ).write_parquet(tmp_path / "changed.parquet")
    outcome = walk(town, tmp_path, *WALK, f"config.data.path={tmp_path}/changed.parquet")
    assert outcome.code == 0, outcome.stderr
    for name in ("model.safetensors", "tokenizer.json", "calibration.json"):
        before, after = (
            (run / str(RETRAINED) / "bundle" / name).read_bytes()
            for run in (walked, Path(outcome.summary["run"]))
        )
        assert before == after, name


def test_killed_twice_it_ends_as_if_it_had_not_been(
    town: Path, walked: Path, tmp_path: Path
) -> None:
    for point in (f"step-{START}.done", f"step-{RETRAINED}"):
        assert walk(town, tmp_path, *WALK, **{KILL_AT: point}).code == -signal.SIGKILL
    (first,) = tmp_path.glob("runs/finance/backtest/*/2024-02-05/ours.parquet")
    when = first.stat().st_mtime_ns
    ended = walk(town, tmp_path, *WALK, f"out={tmp_path}/m.json")
    assert ended.code == 0, ended.stderr
    assert first.stat().st_mtime_ns == when
    assert (tmp_path / "m.json").read_bytes() == (walked / "metrics.json").read_bytes()
    again = walk(town, tmp_path, *WALK)
    assert again.summary["already_done"]
    assert again.summary["metrics"] == ended.summary["metrics"]


def test_no_identifier_is_in_a_run_a_bundle_or_a_back_test(town: Path, walked: Path) -> None:
    frame = pl.read_parquet(town / "transactions.parquet")
    names = set(frame["card_id"]) | set(frame["terminal_id"])
    folders = (town / "runs/finance/latest", walked)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "model.safetensors" for path in files)
    for path in files:
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path).select(pl.col(pl.String))
            assert not any(names & set(texts[column]) for column in texts.columns), path
        else:
            held = path.read_bytes()
            assert not any(name.encode() in held for name in names), path


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("backtest.retrain=daily", "expected one of never, monthly, weekly"),
        ("backtest.start=2024-02-04", "expected 2024-02-05 or later"),
        ("backtest.start=soon", "expected a date such as"),
        ("backtest.trainer.stepz=3", "stepz"),
    ],
)
def test_unusable_settings_are_refused(town: Path, tmp_path: Path, setting: str, said: str) -> None:
    retrain = () if "retrain" in setting else ("backtest.retrain=weekly",)
    outcome = walk(town, tmp_path, "backtest=weekly", *retrain, setting)
    assert outcome.code == 2
    assert said in outcome.stderr


def test_stretches_are_weeks_or_months() -> None:
    weeks = [date(2024, 2, 19) + timedelta(days=7 * k) for k in range(4)]
    assert stretches(weeks, "weekly") == [[week] for week in weeks]
    for of_months in ("monthly", "never"):
        assert stretches(weeks, of_months) == [weeks[:2], weeks[2:]]


def test_a_model_that_would_know_no_later_labels_takes_nobodys_place(
    town: Path, tmp_path: Path
) -> None:
    asked = ("config.split.retrain_days=25", "backtest.until=2024-03-11")
    outcome = walk(town, tmp_path, *WALK, *asked)
    assert (outcome.code, outcome.summary["trained"]) == (0, 0), outcome.stderr
    page = (Path(outcome.summary["run"]) / "report.html").read_text()
    assert "would know no later labels" in page
