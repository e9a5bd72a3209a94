"""What a user may choose for the finance domain: plain dataclasses that Hydra can check."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from core.errors import ConfigError

SOURCES = ("simulated", "files")
TASKS = ("fraud", "surprise")
MEMORIES = ("shared", "per_head")
CALIBRATIONS = ("platt", "isotonic")


@dataclass
class View:
    """One history an event looks at.

    Args:
        key: names of schema entities; several make a composite key, none is the recent stream.
        window: events, the event itself included; null is the whole past.
        labels: whether labels that have matured are part of it.
    """

    key: list[str] = field(default_factory=list)
    window: int | None = 64
    labels: bool = True

    @property
    def name(self) -> str:
        return "+".join(self.key) or "recent"


@dataclass
class FinanceData:
    """Where transactions come from.

    Args:
        source: `files` reads `path`; `simulated` is what `simulate` writes.
        path: CSV or Parquet file; to train, a folder of them or a glob too.
        schema: YAML file that maps its columns to roles, or the name of a ready one
            (domains/finance/schemas: handbook, sparkov, simulated).
        roles: the schema itself, used where `schema` names none; bundles carry it so.
        until: to train, rows from this UTC day on are left out, and labels that were not yet
            known when it began are hidden.
        seed, customers, terminals, days: of the simulator.
    """

    source: str = "simulated"
    path: str | None = None
    schema: str | None = None
    roles: dict[str, Any] = field(default_factory=dict)
    until: str | None = None
    seed: int = 0
    customers: int = 1000
    terminals: int = 2000
    days: int = 90


@dataclass
class Split:
    """Splits by time; days are UTC dates, or times such as 2024-03-04T12:00.

    Args:
        train_before: rows from this day on are never learned from. The last `validation_days`
            before it calibrate; rows whose label was not yet known when those began are left out.
            0 leaves scores as the loss makes them and learns from all rows before `train_before`.
        test_from, test_until: the test is every row from the first day up to, not including, the
            second. The label delay must fit between `train_before` and `test_from`.
        train_from: rows before this day are history only; null is the first day there is.
        refit: once calibrated, train anew on every row before `train_before` that has a label;
            the calibration is kept.
        retrain_days: days of the test of a retraining, which sets the other dates itself.
    """

    train_before: str = "2024-03-04"
    test_from: str = "2024-03-11"
    test_until: str = "2024-03-31"
    validation_days: int = 5
    retrain_days: int = 28
    train_from: str | None = None
    refit: bool = False


@dataclass
class Alerts:
    """Which rows are alerts: those whose score reaches a threshold, which validation rows give for
    one of `per_day`, `share` and `false_alarm`. Without any there are no alerts.

    Args:
        per_day: alerts a day, on average.
        share: of all rows.
        false_alarm: what an alert on a legitimate row costs; the sum of all costs is least.
        missed: what a fraud without an alert costs; null is its amount.
        score: the threshold itself.
    """

    per_day: float | None = None
    share: float | None = None
    false_alarm: float | None = None
    missed: float | None = None
    score: float | None = None

    def chosen(self) -> list[str]:
        """Which of the ways to a threshold are stated."""
        ways = ("per_day", "share", "false_alarm", "score")
        return [name for name in ways if getattr(self, name) is not None]


def _default_views() -> list[View]:
    recent = View([], 16, labels=False)
    return [View(["customer"], 64), View(["terminal"], 64), recent]


@dataclass
class FinanceConfig:
    """Args:
    task: `fraud` learns from labels; `surprise` foresees every field and reads no label, so that
        `labels` of a view only keep the places that a fraud training from its weights fills.
    memory: `shared` gives all heads of a view one key and value of an event and tells them its age
        in features; `per_head` gives each head its own, with rotary times, and scores by a windowed
        kernel.
    batch_size: targets a step.
    negative_rate: share of legitimate rows drawn for every pass over the frauds; of fraud only.
    calibration: `platt` fits a sigmoid to the validation rows, `isotonic` any rising shape, which
        needs some hundred frauds among them; of fraud only.
    focal: power of (1 - the probability of what happened) by which focal loss weighs a row (Lin et
        al. 2017); of fraud only. Its log-odds are no log-odds of fraud until calibrated. 0 is
        cross-entropy.
    forget: share of memory events hidden at random in training.
    few_labels: for a few hundred frauds to learn from: of each view the ages of its first and last
        labels, as steps in which a threshold is one weight. With `memory` shared.
    bins, tail_bins: of a number; the latter lie beyond its last two percent.
    """

    name: str = "finance"
    task: str = "fraud"
    data: FinanceData = field(default_factory=FinanceData)
    split: Split = field(default_factory=Split)
    views: list[View] = field(default_factory=_default_views)
    alerts: Alerts = field(default_factory=Alerts)
    memory: str = "shared"
    batch_size: int = 64
    negative_rate: float = 0.1
    calibration: str = "platt"
    focal: float = 0.0
    forget: float = 0.3
    few_labels: bool = False
    bins: int = 64
    tail_bins: int = 24


def check_config(config: FinanceConfig) -> None:
    """Cross-field checks.

    Raises:
        ConfigError: a value is out of range or two contradict each other.
    """
    _require(config.task in TASKS, "task", config.task, f"one of {', '.join(TASKS)}")
    _require(config.memory in MEMORIES, "memory", config.memory, f"one of {', '.join(MEMORIES)}")
    own = config.task != "surprise" or config.memory == "shared"
    _require(own, "memory with task=surprise", config.memory, "shared")
    data = config.data
    _require(data.source in SOURCES, "data.source", data.source, f"one of {', '.join(SOURCES)}")
    if data.source == "simulated":
        _refuse_ignored({"path": data.path, "schema": data.schema, "roles": data.roles})
    sizes = {"customers": data.customers, "terminals": data.terminals, "days": data.days}
    for name, value in sizes.items():
        _require(value >= 1, f"data.{name}", value, "at least 1")
    _require(config.batch_size >= 2, "batch_size", config.batch_size, "at least 2")
    _require(0 < config.negative_rate <= 1, "negative_rate", config.negative_rate, "in (0, 1]")
    one = f"one of {', '.join(CALIBRATIONS)}"
    _require(config.calibration in CALIBRATIONS, "calibration", config.calibration, one)
    _require(config.focal >= 0, "focal", config.focal, ">= 0")
    supervised = config.task == "fraud"
    told = f"{config.calibration}, {config.focal:g}"
    _require(
        supervised or (config.calibration, config.focal) == ("platt", 0),
        "calibration, focal",
        told,
        f"platt, 0 (their defaults) with domain.task={config.task}, which has no use for them",
    )
    bent = config.focal > 0 and config.split.validation_days == 0
    days = "0 with split.validation_days=0: nothing would turn its scores into probabilities again"
    _require(not bent, "focal", config.focal, days)
    _require(0 <= config.forget < 1, "forget", config.forget, "in [0, 1)")
    _require(
        not config.few_labels or config.memory == "shared",
        "few_labels",
        config.few_labels,
        "false with memory=per_head, which has no such heads",
    )
    _require(config.bins >= 2, "bins", config.bins, "at least 2")
    _require(config.tail_bins >= 1, "tail_bins", config.tail_bins, "at least 1")
    _require(bool(config.views), "views", "none", "at least one view")
    names = [view.name for view in config.views]
    _require(len(set(names)) == len(names), "views", ", ".join(names), "different keys")
    for view in config.views:
        where = f"window of view {view.name}"
        _require(view.window is None or view.window >= 1, where, view.window, "null or at least 1")
    if data.until is not None:
        parse_day("data.until", data.until)
    _check_split(config.split)
    _check_alerts(config)


def _refuse_ignored(given: dict[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"domain.data.{name}: found {value!r} with domain.data.source=simulated, which "
                "would ignore it; set domain.data.source=files"
            )


def _check_alerts(config: FinanceConfig) -> None:
    alerts, found = config.alerts, config.alerts.chosen()
    named = ", ".join(found)
    one = "one of per_day, share, false_alarm and score, and null for the others"
    _require(len(found) <= 1, "alerts", named, one)
    fits = not found or config.task == "fraud"
    _require(fits, f"task with alerts.{named}", config.task, "fraud")
    days = config.split.validation_days
    fits = not found or alerts.score is not None or days > 0
    where = f"split.validation_days with alerts.{named}"
    _require(fits, where, days, "above 0, or alerts.score in its place")
    for name in ("per_day", "share", "false_alarm", "missed", "score"):
        value = getattr(alerts, name)
        _require(value is None or value > 0, f"alerts.{name}", value, "null or above 0")
    _require(alerts.share is None or alerts.share < 1, "alerts.share", alerts.share, "below 1")
    alone = alerts.missed is not None and alerts.false_alarm is None
    _require(not alone, "alerts.missed", alerts.missed, "null without alerts.false_alarm")


def _check_split(split: Split) -> None:
    days = [
        parse_moment(f"split.{name}", getattr(split, name))
        for name in ("train_before", "test_from", "test_until")
    ]
    text = f"{split.train_before}, {split.test_from}, {split.test_until}"
    wanted = "train_before <= test_from < test_until"
    _require(days[0] <= days[1] < days[2], "split", text, wanted)
    for name, least in (("validation_days", 0), ("retrain_days", 1)):
        value = getattr(split, name)
        _require(value >= least, f"split.{name}", value, f">= {least}")
    if split.train_from is not None:
        first, text = parse_moment("split.train_from", split.train_from), split.train_from
        _require(first < days[0], "split.train_from", text, f"before {split.train_before}")

    _require(
        not split.refit or split.validation_days > 0,
        "split.refit",
        split.refit,
        "false where validation_days=0: all rows before train_before are learned from already",
    )


def parse_day(where: str, text: str) -> date:
    """ISO date.

    Raises:
        ConfigError: not one.
    """
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ConfigError(
            f"domain.{where}: found {text!r}, expected a date such as 2018-08-01"
        ) from None


def parse_moment(where: str, text: str) -> datetime:
    """The time, in UTC, or the beginning of the day.

    Raises:
        ConfigError: neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is not None:
        raise ConfigError(
            f"domain.{where}: found {text!r}, expected a date such as 2018-08-01 or a time of it "
            "such as 2018-08-01T12:00"
        )
    return found.replace(tzinfo=UTC)


def parse_delay(where: str, text: str) -> int:
    """A span such as 7d, 36h or 90m in microseconds.

    Raises:
        ConfigError: not one.
    """
    found = re.fullmatch(r"\s*(\d+)\s*([dhms])\s*", str(text))
    if not found:
        raise ConfigError(f"{where}: found {text!r}, expected a span such as 7d, 36h or 90m")
    seconds = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}[found[2]]
    return int(found[1]) * seconds * 1_000_000


def _require(fine: bool, where: str, found: object, expected: str) -> None:
    if not fine:
        raise ConfigError(f"domain.{where}: found {found!r}, expected {expected}")
