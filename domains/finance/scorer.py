"""Files in, the same rows with a score out; the state carried between stretches is raw events."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl
import torch

from core.bundle import restore
from core.contract import Partition, Summary
from core.errors import ConfigError, DataContractError
from domains.finance.model import require_finite
from domains.finance.stream import KeyOrder, Stream, cut, newest

if TYPE_CHECKING:
    from core.bundle import Bundle
    from domains.finance.model import FraudModule
    from domains.finance.source import TransactionSource
    from domains.finance.task import FraudTask
    from domains.finance.tokens import FinanceTokenizer

KEY_VARIABLE = "LONGSTRAND_HASH_KEY"
MARK = 16
"""Bytes before a state that say which secret its hashes are of."""
ADDED = ("fraud_score", "model_version", "scored_at")


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
        return joined, [KeyOrder(joined.keys[:, v]) for v in range(len(self.windows))]


class FraudScorer:
    """Scores a source's partitions in order and writes the file.

    `scored_at` is the time of the input's last event, not of the run: a rerun changes no byte.
    The state is the raw last events, entities as keyed hashes: see `hash_secret`.

    Raises:
        DataContractError: the input already has a column that scoring adds.
    """

    def __init__(self, task: FraudTask, bundle: Bundle, source: TransactionSource) -> None:
        taken = [name for name in ADDED if name in source.raw.columns]
        if taken:
            raise DataContractError(
                f"{source.path}: found columns {', '.join(taken)}, which scoring adds; rename or "
                "drop them"
            )
        self.source = source
        self.calibration = bundle.calibration
        self.version = bundle.version
        tokenizer, module = restore(bundle, task)
        secret = hash_secret(bundle.version)
        # Names the secret without telling it: states of another one know nobody of this one.
        self.mark = hashlib.blake2b(b"longstrand state", key=secret, digest_size=MARK).digest()
        self.stream = StreamScorer(
            module, tokenizer, task.view_entities(), source.schema.label_delay, secret
        )

    def check(self, out: Path) -> None:
        """Whether `write` can write this input, with a score, to `out`.

        Raises:
            ConfigError: `out` is neither .csv nor .parquet, or .csv cannot hold a column.
        """
        suffix = out.suffix.lower()
        if suffix not in (".csv", ".parquet"):
            raise ConfigError(f"output: found {out.name}, expected a name in .csv or .parquet")
        schema = self.source.raw.schema
        unfit = [name for name, kind in schema.items() if kind.is_nested() or kind == pl.Binary]
        if suffix == ".csv" and unfit:
            raise ConfigError(
                f"output: found {out.name} for an input with {len(unfit)} columns of lists, "
                "structures or bytes, which CSV cannot hold; expected a name in .parquet"
            )

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Columns row, fraud_score. `state` is what the partition before returned; the first has
        none and begins with the source's history.

        Raises:
            DataContractError: the history does not end before the input begins.
            ConfigError: `state` is of another secret.
            LongstrandError: a score is not a finite number.
        """
        stream, events = self.stream, self.source.part(part.order)
        if state is not None:
            stream.past = self._past(state)
        elif self.source.history is not None:
            stream.past = None
            stream.remember(self.source.history)
        else:
            stream.past = None
        if not len(events):
            return pl.DataFrame(schema={"row": pl.Int64, "fraud_score": pl.Float64}), state
        score = require_finite(self.calibration.apply(stream.push(events)), "scores")
        # More digits than fp32 carries would make equal runs look different.
        scored = pl.DataFrame({"row": events["row"], "fraud_score": score}).with_columns(
            pl.col("fraud_score").round_sig_figs(6)
        )
        assert stream.past is not None
        return scored, self.mark + stream.past.to_bytes()

    def _past(self, state: bytes) -> Stream:
        if state[:MARK] != self.mark:
            raise ConfigError(
                f"{KEY_VARIABLE}: found another key than that of the parts already scored, "
                "expected the same; set it again, or delete the unfinished parts and score anew"
            )
        return Stream.from_bytes(state[MARK:])

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        """Input rows in input order, every input column as it was, with the score. Rows that were
        set aside go to `<out>.set_aside.csv` instead, one line a bad cell.

        Raises:
            ConfigError: `check` refuses `out`.
            DataContractError: rows got lost.
        """
        self.check(out)
        scores = pl.concat(list(scored))
        last = cast("datetime | None", self.source.events["time"].max())
        frame = (
            self.source.raw.with_row_index("__row")
            .with_columns(pl.col("__row").cast(pl.Int64))
            .join(scores, left_on="__row", right_on="row", how="inner", maintain_order="left")
            .drop("__row")
            .with_columns(
                model_version=pl.lit(self.version),
                scored_at=pl.lit(last.isoformat() if last else None, dtype=pl.String),
            )
        )
        set_aside = self.source.set_aside().collect()
        own = set_aside.filter(pl.col("file") == str(self.source.path))
        reasons = _reasons(own)
        if len(frame) + sum(reasons.values()) != len(self.source.raw):
            raise DataContractError(
                f"{self.source.path}: of {len(self.source.raw)} rows {len(frame)} are scored and "
                f"{sum(reasons.values())} set aside, expected these to add up; delete the "
                "unfinished parts and score again"
            )
        files = [_write(frame, out)]
        quarantine = out.with_name(out.name + ".set_aside.csv")
        if len(set_aside):
            files.append(_write(set_aside, quarantine))
        else:
            quarantine.unlink(missing_ok=True)
        return Summary(len(self.source.raw), len(frame), reasons, files)


def hash_secret(version: str) -> bytes:
    """32 bytes that key the hash of entities: from the environment variable LONGSTRAND_HASH_KEY
    where it is set, else from the bundle's version. Who has the bundle knows the latter, so it
    keeps off a casual reader of a state file and nobody who tries all identifiers there may be.
    """
    return hashlib.sha256((os.environ.get(KEY_VARIABLE) or version).encode()).digest()


def _reasons(set_aside: pl.DataFrame) -> dict[str, int]:
    """Rows by the first column for which they were set aside."""
    first = set_aside.unique("row", keep="first", maintain_order=True)
    counts = first.group_by("column", maintain_order=True).len()
    return {f"bad {column}": count for column, count in counts.iter_rows()}


def _write(frame: pl.DataFrame, out: Path) -> str:
    """Whole or not at all."""
    temporary = out.with_name(out.name + ".partial")
    if out.suffix.lower() == ".parquet":
        frame.write_parquet(temporary)
    else:
        frame.write_csv(temporary)
    os.replace(temporary, out)
    return str(out)
