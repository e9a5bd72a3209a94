"""Scores of files in stretches of time, and of events as they come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from core.bundle import restore
from core.contract import Partition, Summary
from core.errors import DataContractError
from core.memory import give_back_memory
from domains.finance.alerts import printed, threshold
from domains.finance.ingest import ingest, read_facts
from domains.finance.model import require_finite
from domains.finance.output import TOLD, check_out, write_scored, write_set_aside
from domains.finance.reasons import REASONS, Explainer
from domains.finance.store import StreamStore
from domains.finance.stream import KeyOrder, Stream, cut, newest

if TYPE_CHECKING:
    from core.bundle import Bundle
    from domains.finance.files import TransactionFiles
    from domains.finance.model import FraudModule
    from domains.finance.task import FraudTask
    from domains.finance.tokens import FinanceTokenizer

ALERT = "alert"
PART_ROWS = 250_000


class StreamScorer:
    """Scores events in time order, in whatever pieces they come, with equal numbers.

    Args:
        secret: keys the hash of entities, which `past` holds.

    Attributes:
        past: events that later ones can still see; None before the first.
    """

    def __init__(
        self,
        module: FraudModule,
        tokenizer: FinanceTokenizer,
        entities: list[list[str]],
        delay: int,
        secret: bytes = b"",
    ) -> None:
        self.module = module.eval()
        self.secret = secret
        self.tokenizer = tokenizer
        self.entities = entities
        self.delay = delay
        self.windows = module.windows()
        self.past: Stream | None = None

    def push(self, events: pl.DataFrame) -> np.ndarray:
        """[n] log-odds of the next events (columns of `TransactionSource.events`).

        Raises:
            LongstrandError: one is not a finite number.
        """
        joined, orders = self._extend(events)
        places = np.arange(len(joined) - len(events), len(joined))
        with torch.no_grad():
            part = cut(joined, orders, places, self.windows)
            logits = self.module.stream_logits(*part, self.delay)
        self.past = newest(joined, orders, self.windows)
        return require_finite(logits.double().cpu().numpy(), "predictions")

    def remember(self, events: pl.DataFrame) -> None:
        """Take events as history, without scoring them."""
        joined, orders = self._extend(events)
        self.past = newest(joined, orders, self.windows)

    def _extend(self, events: pl.DataFrame) -> tuple[Stream, list[KeyOrder]]:
        joined = self.tokenizer.encode(events, self.entities, self.secret).after(self.past)
        return joined, [KeyOrder.of(joined.keys[:, v]) for v in range(len(self.windows))]


class FraudScorer:
    """Scores files. Histories come from the stream on disk that `prepare` makes, so that stretches
    of time are independent of each other.

    Attributes:
        own: columns that a score has.

    Raises:
        DataContractError: the input already has a column that scoring adds.
    """

    own: tuple[str, ...] = ("fraud_score",)

    def __init__(self, task: FraudTask, bundle: Bundle, source: TransactionFiles) -> None:
        self.threshold = threshold(task.config.alerts, bundle.calibration)
        if self.threshold is not None:
            self.own = (*self.own, ALERT, *REASONS)
        taken = [name for name in (*self.own, *TOLD) if name in source.columns()]
        if taken:
            raise DataContractError(
                f"{source.path}: found columns {', '.join(taken)}, which scoring adds; rename or "
                "drop them"
            )
        self.source = source
        self.calibration = bundle.calibration
        self.version = bundle.version
        self.tokenizer, self.module = restore(bundle, task)
        self.module.eval()
        self.entities = task.view_entities()
        self.windows = self.module.windows()
        delay = source.schema.label_delay
        self.explainer = Explainer(self.module, self.tokenizer, task.config.views, delay)

    def check(self, out: Path) -> None:
        """Raises ConfigError for an output that `write` could not write."""
        check_out(self.source, out)

    def prepare(self, work: Path) -> Sequence[Partition]:
        """Consecutive stretches of time. Reads the input into the folder `work`/stream, unless
        that is there already.

        Raises:
            DataContractError: a file breaks the contract as a whole, or the history does not end
                before the input begins.
        """
        folder = work / "stream"
        if not folder.is_dir():
            partial = work / "stream.partial"
            shutil.rmtree(partial, ignore_errors=True)
            # It holds everybody's events, though nobody's name: nobody else's to read.
            partial.mkdir(mode=0o700)
            ingest(self.source, self.tokenizer, self.entities, partial)
            os.replace(partial, folder)
        self.facts, self.folder = read_facts(folder), folder
        give_back_memory()
        events = len(StreamStore(folder).stream) - self.facts.context
        count = max(1, -(-events // PART_ROWS))
        return [Partition(f"part-{i:05d}", i, carries_state=False) for i in range(count)]

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Columns row and `own`.

        Raises:
            LongstrandError: a score is not a finite number.
        """
        # Opened for each partition, because pages of the whole stream would add up in memory.
        self.store = StreamStore(self.folder)
        stream = self.store.stream
        first = self.facts.context + part.order * PART_ROWS
        places = np.arange(first, min(first + PART_ROWS, len(stream)))
        if not len(places):
            raw = np.empty((0, *self.module.outputs))
        else:
            with torch.no_grad():
                seen = cut(stream, self.store.orders, places, self.windows)
                logits = self.module.stream_logits(*seen, self.source.schema.label_delay)
            raw = require_finite(logits.double().cpu().numpy(), "predictions")
        rows = pl.DataFrame({"row": stream.row[places]})
        return rows.hstack(self._own(raw, self._score(raw), places)), None

    def _score(self, raw: np.ndarray) -> pl.Series:
        return printed(require_finite(self.calibration.apply(raw), "scores"))

    def _own(self, raw: np.ndarray, score: pl.Series, places: np.ndarray) -> pl.DataFrame:
        """The columns `own`."""
        frame = score.alias("fraud_score").to_frame()
        if self.threshold is None:
            return frame
        alert = score >= self.threshold
        asked = places[alert.to_numpy()]
        told = self.explainer.reasons(self.store.stream, self.store.orders, asked)
        texts = np.full((len(places), len(REASONS)), None, dtype=object)
        if told:
            texts[alert.to_numpy()] = told
        reasons = {
            name: pl.Series(texts[:, i].tolist(), dtype=pl.String) for i, name in enumerate(REASONS)
        }
        return frame.with_columns(alert.alias(ALERT), **reasons)

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        """Input rows in input order, every input column as it was, with the score; a folder's
        files under their own names. `scored_at` is the time of the input's last event, not of the
        run: a rerun changes no byte. Rows that were set aside go to `<out>.set_aside.csv` instead,
        one line a bad cell.

        Raises:
            ConfigError: `check` refuses `out`.
            DataContractError: rows got lost.
        """
        self.check(out)
        scores = pl.concat(list(scored)).sort("row")
        told = {"model_version": self.version, "scored_at": self.facts.last}
        rows, counts = sum(self.facts.rows), self.facts.reasons
        if len(scores) + sum(counts.values()) != rows:
            raise DataContractError(
                f"{self.source.path}: of {rows} rows {len(scores)} are scored and "
                f"{sum(counts.values())} set aside, expected these to add up; delete the "
                "unfinished parts and score again"
            )
        files = [write_scored(self.source, self.facts.rows, scores, told, out)]
        files += write_set_aside(self.facts.set_aside, out)
        return Summary(rows, len(scores), counts, files)


class SurpriseScorer(FraudScorer):
    """Files of how surprising each row is, and which of its fields surprised most."""

    own = ("surprise", "surprise_field")

    def _own(self, raw: np.ndarray, score: pl.Series, places: np.ndarray) -> pl.DataFrame:
        field = pl.Series(self.calibration.strongest(raw), dtype=pl.String)
        return pl.DataFrame({"surprise": score, "surprise_field": field})
