"""The task without labels: how little of an event was to be expected, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Challenge, Fold, Metric, Panel
from core.errors import ConfigError
from core.tails import fit_tail
from core.training.loader import StepLoader
from domains.finance.batches import Gatherer, uniform_batches
from domains.finance.fields import fields_of
from domains.finance.model import require_finite
from domains.finance.stream import UNKNOWN_LABEL, Stream
from domains.finance.surprise_figures import NATS, frequencies, surprise_metrics
from domains.finance.surprise_model import SurpriseModule
from domains.finance.surprise_panels import surprise_panels
from domains.finance.task import FraudTask, frame_of, places_of, predict_logits
from domains.finance.tokens import FinanceTokenizer
from domains.finance.views import gathered_config
from domains.finance.words import told

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from domains.finance.files import TransactionFiles
    from domains.finance.labelled import TransactionSource
    from domains.finance.scorer import SurpriseScorer


class SurpriseTask(FraudTask):
    """Learns every field of an event from the past of its keys and never reads a label; those that
    there are judge its scores. Rows, split and views are those of the fraud task."""

    name = "surprise"

    def folds(self, source: TransactionSource) -> list[Fold]:
        """As of the fraud task, labelled or not.

        Raises:
            ConfigError: no validation days, so that nothing says how rare a surprise is.
        """
        if not self.config.split.validation_days:
            raise ConfigError(
                "domain.split.validation_days: found 0, expected at least 1: surprise is a rank "
                "among the rows of those days"
            )
        return super().folds(source)

    def loader(
        self,
        source: TransactionSource,
        tokenizer: FinanceTokenizer,
        rows: pl.Series,
        seed: int,
        steps: int,
    ) -> StepLoader:
        """Batches of rows, all alike."""
        gatherer = Gatherer(self._stream(source, tokenizer), source.schema.label_delay)
        places = places_of(source, rows)
        return StepLoader(uniform_batches(gatherer, places, seed, self.config.batch_size), steps)

    def module(self, tokenizer: FinanceTokenizer, encoder: EncoderConfig) -> SurpriseModule:
        config = gathered_config(self.config, encoder, tokenizer.floats)
        return SurpriseModule(tokenizer, config, fields_of(tokenizer, self.config.views))

    def predict(
        self,
        module: Any,
        source: TransactionSource,
        tokenizer: FinanceTokenizer,
        rows: pl.Series,
    ) -> pl.DataFrame:
        """Columns row, label, raw (nats of each field), day, amount, entity as the fraud task has
        them; nats:FIELD, and found:FIELD and usual:FIELD in words where it surprised most.

        Raises:
            LongstrandError: a prediction is not a finite number.
        """
        stream, places = self._stream(source, tokenizer), places_of(source, rows)
        raw = predict_logits(module, stream, places, source.schema.label_delay)
        require_finite(raw, "predictions")
        names = [field.name for field in module.fields]
        frame = frame_of(source, places, pl.Series("raw", raw, pl.Array(pl.Float64, len(names))))
        nats = {f"{NATS}{name}": raw[:, f] for f, name in enumerate(names)}
        words = told(module, tokenizer, source, stream, places, raw)
        return pl.concat([frame.with_columns(**nats), words], how="horizontal")

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        """Every field's rank among the validation rows."""
        nats = [name for name in validation.columns if name.startswith(NATS)]
        tails = (fit_tail(n.removeprefix(NATS), validation[n].to_numpy()) for n in nats)
        return Calibration("tails", tails=tuple(tails))

    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        """With a column field: the one that surprised most."""
        field = calibration.strongest(scored["raw"].to_numpy())
        return scored.with_columns(pl.Series("field", field, dtype=pl.String))

    def metrics(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Metric]:
        return surprise_metrics(source.path.stem, predictions)

    def parts(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Metric]:
        """By labels, where there are some."""
        if predictions["label"].is_null().all():
            return []
        return super().parts(source, predictions.with_columns(raw="score"))

    def floors(
        self, source: TransactionSource, fold: Fold, encoder: EncoderConfig
    ) -> Mapping[str, pl.DataFrame]:
        """How frequent a class of each field is, whatever came before, and the amount alone."""
        tokenizer = self.fit_tokenizer(source, fold.learned)
        gatherer = Gatherer(self._stream(source, tokenizer), source.schema.label_delay)
        train, test = places_of(source, fold.learned), places_of(source, fold.test)
        nats = frequencies(tokenizer, self.config.views, gatherer, train, test)
        most = np.max(np.stack(list(nats.values())), axis=0)
        amount = source.events[f"number:{source.schema.amount}"][test]
        return {
            "frequencies": frame_of(source, test, pl.Series(most)).with_columns(**nats),
            "amount": frame_of(source, test, amount),
        }

    def challenge(self, source: TransactionSource, seen: Sequence[str]) -> Challenge:
        raise ConfigError(
            "domain.task: found surprise, expected fraud: a retraining judges by labels, which "
            "this task never reads; train it anew with pipelines.train"
        )

    def scorer(self, bundle: Bundle, source: TransactionFiles) -> SurpriseScorer:
        from domains.finance.scorer import SurpriseScorer

        return SurpriseScorer(self, bundle, source)

    def panels(self, source: TransactionSource, predictions: pl.DataFrame) -> list[Panel]:
        return surprise_panels(predictions)

    def _usable(self) -> pl.Expr:
        return pl.lit(True)

    def _stream(self, source: TransactionSource, tokenizer: FinanceTokenizer) -> Stream:
        stream = super()._stream(source, tokenizer)
        return replace(stream, label=np.full_like(stream.label, UNKNOWN_LABEL))
