"""The supervised task: the probability that a transaction is fraud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import polars.selectors as cs
import torch

from core.calibration import Calibration, fit_platt
from core.contract import Challenge, Fold, Metric, Panel, Yardstick
from core.errors import ConfigError, TooFewLabelsError
from core.isotonic import fit_isotonic
from core.training.loader import StepLoader
from domains.finance import floors
from domains.finance.alerts import CURVE, alert_curve, printed, threshold
from domains.finance.batches import Gatherer, sampled_batches
from domains.finance.config import FinanceConfig, parse_moment
from domains.finance.gathered import GatheredFraudModule
from domains.finance.metrics import fraud_metrics
from domains.finance.model import FraudModule, KeyedFraudModule, require_finite
from domains.finance.panels import fraud_panels
from domains.finance.parts import EARLIER, earlier, part_metrics
from domains.finance.retraining import challenge, fraud_yardstick
from domains.finance.stream import DAY, KeyOrder, Stream, cut
from domains.finance.tokens import FinanceTokenizer, fit_tokenizer
from domains.finance.views import beyond, gathered_config, keyed_config, mean_history, objection

if TYPE_CHECKING:
    from core.attention import Pattern
    from core.attention.auto import Workload
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from domains.finance.files import TransactionFiles
    from domains.finance.labelled import TransactionSource
    from domains.finance.scorer import FraudScorer

PREDICT_ROWS = 500_000


class FraudTask:
    """Learns from labelled rows before a day, tests on every row of a later stretch."""

    name = "fraud"

    def __init__(self, config: FinanceConfig) -> None:
        self.config = config

    def folds(self, source: TransactionSource) -> list[Fold]:
        """One fold by time.

        Validation is the last `validation_days` before `train_before`. Training rows are those
        whose labels were known when validation began, so calibration sees the same lag between
        learning and scoring as the test does. Rows between serve as history only. Without
        validation days, and in a refit, training goes up to `train_before`: those labels are known
        when the test begins.

        Raises:
            ConfigError: the label delay does not fit between training and test.
        """
        split, delay = self.config.split, source.schema.label_delay
        before = parse_moment("split.train_before", split.train_before)
        test_from = parse_moment("split.test_from", split.test_from)
        test_until = parse_moment("split.test_until", split.test_until)
        if before + timedelta(microseconds=delay) > test_from:
            raise ConfigError(
                f"domain.split: found test_from={split.test_from}, expected at least "
                f"{delay / DAY:g} days after train_before={split.train_before}: labels of the "
                "last training rows are not known earlier"
            )
        validation_from = before - timedelta(days=split.validation_days)
        lag = timedelta(microseconds=delay) if split.validation_days else timedelta()
        time, begun = pl.col("time"), pl.lit(True)
        known = self._usable() & (time < before)
        if split.train_from is not None:
            begun = time >= parse_moment("split.train_from", split.train_from)
        fold = Fold(
            "time",
            train=_rows(source, known & begun & (time < validation_from - lag)),
            validation=_rows(source, known & (time >= validation_from)),
            test=_rows(source, (time >= test_from) & (time < test_until)),
            refit=_rows(source, known & begun) if split.refit else None,
        )
        for name in ("train", "validation", "test"):
            wanted = name != "validation" or split.validation_days > 0
            if wanted and not len(getattr(fold, name)):
                raise TooFewLabelsError(
                    f"{source.path}: found no {name} rows, the file spans "
                    f"{source.events['time'].min():%Y-%m-%d} to "
                    f"{source.events['time'].max():%Y-%m-%d}; correct domain.split"
                )
        return [fold]

    def fit_tokenizer(self, source: TransactionSource, rows: pl.Series) -> FinanceTokenizer:
        events = source.events.filter(pl.col("row").is_in(rows.implode()))
        config = self.config
        return fit_tokenizer(events, config.bins, config.tail_bins, source.schema.time_zone)

    def take_over(
        self, bundle: Bundle, source: TransactionSource, rows: pl.Series
    ) -> tuple[FinanceTokenizer, Mapping[str, Any]]:
        """The bundle's own: its vocabulary and bins are what its weights know."""
        return self.load_tokenizer(bundle.tokenizer, bundle.config), bundle.state_dict()

    def load_tokenizer(
        self, state: Mapping[str, Any], config: Mapping[str, Any]
    ) -> FinanceTokenizer:
        return FinanceTokenizer.from_dict(state)

    def loader(
        self,
        source: TransactionSource,
        tokenizer: FinanceTokenizer,
        rows: pl.Series,
        seed: int,
        steps: int,
    ) -> StepLoader:
        """Batches of sampled targets. Windows reach back from a target, never beyond it."""
        gatherer = Gatherer(self._stream(source, tokenizer), source.schema.label_delay)
        places = places_of(source, rows)
        config = self.config
        batch_at = sampled_batches(gatherer, places, seed, config.batch_size, config.negative_rate)
        return StepLoader(batch_at, steps)

    def module(self, tokenizer: FinanceTokenizer, encoder: EncoderConfig) -> FraudModule:
        module = self._network(tokenizer, encoder)
        module.focal = self.config.focal
        return module

    def _network(self, tokenizer: FinanceTokenizer, encoder: EncoderConfig) -> FraudModule:
        if self.config.memory == "per_head":
            return KeyedFraudModule(tokenizer, keyed_config(self.config, encoder))
        return GatheredFraudModule(
            tokenizer, gathered_config(self.config, encoder, tokenizer.floats)
        )

    def workload(self, source: TransactionSource, encoder: EncoderConfig) -> Workload:
        """A sequence is what becomes of a key's history. A step gathers what `batch_size` events
        of it see, pair by pair; looking back only, that is half of what a pattern names."""
        tokens = mean_history(source.events, self.config.views)
        return encoder.workload(tokens, self.config.batch_size / (2 * tokens), block=1)

    def objection(self, pattern: Pattern) -> str | None:
        return objection(pattern) or beyond(pattern, self.config.views)

    def predict(
        self,
        module: FraudModule,
        source: TransactionSource,
        tokenizer: FinanceTokenizer,
        rows: pl.Series,
    ) -> pl.DataFrame:
        """Columns row, label, raw (log-odds), day, amount, entity (a number without meaning that
        tells the first entity's values apart), `earlier:*` (earlier transactions of each entity),
        and kind where the schema names one.

        Raises:
            LongstrandError: a prediction is not a finite number.
        """
        stream, places = self._stream(source, tokenizer), places_of(source, rows)
        raw = predict_logits(module, stream, places, source.schema.label_delay)
        require_finite(raw, "predictions")
        return frame_of(source, places, pl.Series(raw, dtype=pl.Float64))

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        known = validation.filter(pl.col("label").is_not_null())
        fit = fit_isotonic if self.config.calibration == "isotonic" else fit_platt
        fitted = fit(known["raw"].to_numpy(), known["label"].to_numpy())
        return replace(fitted, kept={CURVE: alert_curve(known, fitted)}) if len(known) else fitted

    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        """With a column alert, where alerts are asked for."""
        least = threshold(self.config.alerts, calibration)
        if least is None:
            return scored
        return scored.with_columns(alert=printed(scored["score"].to_numpy()) >= least)

    def metrics(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Metric]:
        return fraud_metrics(source.path.stem, "all_rows", predictions, self.config.alerts)

    def parts(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Metric]:
        return list(part_metrics(source.path.stem, predictions))

    def floors(
        self, source: TransactionSource, fold: Fold, encoder: EncoderConfig
    ) -> dict[str, pl.DataFrame]:
        """Probabilities by the amount alone and by the Handbook's aggregates. Aggregates take
        labels with the same delay as the model."""
        stream = self._stream(source, self.fit_tokenizer(source, fold.learned))
        amount = source.events[f"number:{source.schema.amount}"].to_numpy()
        train, test = places_of(source, fold.learned), places_of(source, fold.test)
        features = {
            "amount": floors.amount_feature(amount),
            "logistic_regression": floors.aggregate_features(
                stream, amount, source.schema.label_delay
            ),
        }
        found = {}
        for name, values in features.items():
            raw = floors.logistic_regression(values, stream.label == 1, train, test)
            found[name] = frame_of(source, test, pl.Series(raw))
        return found

    def label_intervals(self, source: TransactionSource, fold: Fold) -> list[str]:
        """Times of training (in the end) and of calibration rows, half-open: up to a microsecond,
        the tick of every time here, after the last."""
        intervals = []
        for rows in (fold.learned, fold.validation):
            time = source.events.filter(pl.col("row").is_in(rows.implode()))["time"]
            if len(time):
                first, last = (cast(datetime, t) for t in (time.min(), time.max()))
                end = last + timedelta(microseconds=1)
                intervals.append(f"time:{first.isoformat()}/{end.isoformat()}")
        return intervals

    def seen_rows(self, source: TransactionSource, intervals: Sequence[str]) -> pl.Series:
        """Labelled rows of those times. The end of an interval counts as inside, because older
        bundles wrote the last row's own time there.

        Raises:
            ConfigError: not intervals that `label_intervals` writes.
        """
        seen = pl.lit(False)
        for text in intervals:
            seen |= pl.col("time").is_between(*_interval(text))
        return _rows(source, seen & pl.col("label").is_not_null())

    def in_service(self, source: TransactionSource, intervals: Sequence[str]) -> datetime:
        delay = timedelta(microseconds=source.schema.label_delay)
        return max(_interval(text)[1] for text in intervals) + delay

    def challenge(self, source: TransactionSource, seen: Sequence[str]) -> Challenge:
        ends = [_interval(text)[1] for text in seen]
        return challenge(self.folds(source)[0], source, max(ends, default=None))

    def yardstick(self, source: TransactionSource, predictions: pl.DataFrame) -> Yardstick:
        return fraud_yardstick(predictions)

    def scorer(self, bundle: Bundle, source: TransactionFiles) -> FraudScorer:
        from domains.finance.scorer import FraudScorer

        return FraudScorer(self, bundle, source)

    def panels(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Panel]:
        return fraud_panels(predictions)

    def view_entities(self) -> list[list[str]]:
        """Entities of each view's key."""
        return [list(view.key) for view in self.config.views]

    def _usable(self) -> pl.Expr:
        """Which rows may be learned from and calibrated on."""
        return pl.col("label").is_not_null()

    def _stream(self, source: TransactionSource, tokenizer: FinanceTokenizer) -> Stream:
        return tokenizer.encode(source.events, self.view_entities()).after(None)


def predict_logits(
    module: FraudModule, stream: Stream, places: np.ndarray, delay: int
) -> np.ndarray:
    """[T, *outputs] what the module says of these stream places, float64, in stretches that see
    only what they need."""
    module.eval()
    windows = module.windows()
    orders = [KeyOrder.of(stream.keys[:, v]) for v in range(len(windows))]
    found = [np.empty((0, *module.outputs))]
    with torch.no_grad():
        for start in range(0, len(places), PREDICT_ROWS):
            part = cut(stream, orders, places[start : start + PREDICT_ROWS], windows)
            found.append(module.stream_logits(*part, delay).double().cpu().numpy())
    return np.concatenate(found)


def frame_of(source: TransactionSource, places: np.ndarray, raw: pl.Series) -> pl.DataFrame:
    """What is predicted of these stream places, beside what figures need of them."""
    events = source.events.with_columns(earlier(source.events))[places]
    # Without entities every row is one of its own.
    entity = next((f"entity:{name}" for name in source.schema.entities), "row")
    return events.select(
        "row",
        "label",
        raw.alias("raw"),
        pl.col("time").dt.convert_time_zone(source.schema.time_zone).dt.date().alias("day"),
        pl.col(f"number:{source.schema.amount}").alias("amount"),
        pl.col(entity).rank("dense").cast(pl.Int64).alias("entity"),
        cs.starts_with(EARLIER) | cs.by_name("kind", require_all=False),
    )


def _rows(source: TransactionSource, where: pl.Expr) -> pl.Series:
    return source.events.filter(where)["row"]


def places_of(source: TransactionSource, rows: pl.Series) -> np.ndarray:
    """Where these rows stand in the stream, in time order."""
    wanted = source.events.select(pl.col("row").is_in(rows.implode())).to_series()
    return np.flatnonzero(wanted.to_numpy())


def _interval(text: str) -> tuple[datetime, datetime]:
    """time:START/END, ISO times with their offset."""
    name, _, span = text.partition(":")
    try:
        start, end = (datetime.fromisoformat(part) for part in span.split("/"))
    except ValueError:
        start = end = datetime.min
    if name != "time" or start.tzinfo is None or end.tzinfo is None:
        raise ConfigError(
            f"label interval: found {text!r}, expected time:START/END with ISO times such as "
            "2024-01-01T00:00:00+00:00; the bundle is not one of the finance domain"
        )
    return start.astimezone(UTC), end.astimezone(UTC)
