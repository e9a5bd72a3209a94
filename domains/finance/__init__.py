"""Fraud and surprise on transaction streams: schema, tokens, views, scoring, simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ConfigError
from domains.finance.config import FinanceConfig, check_config, parse_day

if TYPE_CHECKING:
    from domains.finance.files import TransactionFiles
    from domains.finance.labelled import TransactionSource
    from domains.finance.task import FraudTask

DAY = 86_400_000_000


class FinanceDomain:
    """What pipelines know of this package. Imports wait until they are needed, so that printing
    a configuration loads neither torch nor polars."""

    name = "finance"
    config = FinanceConfig

    def open(
        self,
        config: FinanceConfig,
        purpose: Literal["train", "score"],
        *,
        input: Path | None = None,
        history: Path | None = None,
    ) -> TransactionSource | TransactionFiles:
        """`train` reads and checks transactions; `score` finds the files of `input`.

        Raises:
            ConfigError: a needed path is missing, or one is given that the purpose has no use for.
            DataContractError: the file breaks the contract as a whole.
        """
        from domains.finance.files import TransactionFiles
        from domains.finance.labelled import TransactionSource
        from domains.finance.schema import named_schema

        check_config(config)
        data = config.data
        if purpose == "train":
            _refuse("input", input, "training reads domain.data.path")
            _refuse("history", history, "training data is its own history")
            input = Path(_needed("domain.data.path", data.path, "simulate data first, or name it"))
        elif input is None:
            raise ConfigError("input: found none, expected CSV or Parquet to score")
        schema = named_schema(data)
        _check_views(config, dict(schema.entities))
        if purpose == "train":
            until = parse_day("data.until", data.until) if data.until else None
            needs_label = config.task != "surprise"
            return TransactionSource(Path(input), schema, until, needs_label)
        return TransactionFiles(Path(input), schema, history)

    def inputs(self, config: FinanceConfig, input: Path) -> None:
        """Transactions of a folder or a glob are one stream."""

    def task(self, config: FinanceConfig) -> FraudTask:
        from domains.finance.surprise import SurpriseTask
        from domains.finance.task import FraudTask

        check_config(config)
        return {"fraud": FraudTask, "surprise": SurpriseTask}[config.task](config)

    def simulate(self, config: FinanceConfig, out: Path) -> None:
        """transactions.parquet, transactions.csv, schema.yaml and README.txt into `out`."""
        from domains.finance.simulate import write_simulation

        check_config(config)
        write_simulation(config.data, Path(out))

    def simulated(self, config: FinanceConfig, out: Path) -> FinanceConfig:
        data = replace(
            config.data,
            source="files",
            path=str(Path(out) / "transactions.parquet"),
            schema="simulated",
        )
        return replace(config, data=data)

    def as_of(self, config: FinanceConfig, day: date) -> FinanceConfig:
        """The test is the last `split.retrain_days` days with known labels; labels of training and
        of calibration were known when it began."""
        from domains.finance.schema import named_schema

        delay = timedelta(days=-(-named_schema(config.data).label_delay // DAY))
        until = day - delay
        start = until - timedelta(days=config.split.retrain_days)
        dates = {"train_before": start - delay, "test_from": start, "test_until": until}
        split = replace(config.split, **{name: str(value) for name, value in dates.items()})
        return replace(config, data=replace(config.data, until=str(day)), split=split)

    def restored(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same: no word has changed."""
        return saved

    def carried(self, config: FinanceConfig) -> FinanceConfig:
        """An absolute path, and the schema itself in place of its file; all of its rows, whatever
        day the training knew it at."""
        from domains.finance.schema import named_schema

        data, roles = config.data, named_schema(config.data).to_dict()
        path = str(Path(_needed("domain.data.path", data.path, "name a file")).resolve())
        return replace(config, data=replace(data, path=path, schema=None, roles=roles, until=None))


def _needed(where: str, value: str | None, advice: str) -> str:
    if not value:
        raise ConfigError(f"{where}: found nothing, expected a file; {advice}")
    return value


def _refuse(where: str, value: Any, why: str) -> None:
    if value is not None:
        raise ConfigError(f"{where}: found {value}, expected none: {why}")


def _check_views(config: FinanceConfig, entities: dict[str, str]) -> None:
    for view in config.views:
        unknown = [name for name in view.key if name not in entities]
        if unknown:
            raise ConfigError(
                f"domain.views: found key {', '.join(unknown)}, expected entities of the schema: "
                f"{', '.join(entities)}"
            )


domain = FinanceDomain()
