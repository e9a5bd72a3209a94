"""Transactions to learn from: one file or many, as they were known when a day began."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from core.digest import sha256
from core.errors import DataContractError
from domains.finance.clock import cell
from domains.finance.files import Table, tables_of
from domains.finance.schema import Schema
from domains.finance.source import BAD_SHARE, judge, refuse_bad, told


class TransactionSource:
    """Labelled transactions to learn from or to judge a model by: every file that `path` names,
    in the order of their names.

    A row's number is its place in all of them together, the first row of data being 0; files added
    later with later names leave it as it is.

    Args:
        until: rows of this UTC day and later are left out, and labels not known when it began
            are hidden; None takes everything.
        needs_label: whether files must have the label; without it they may.

    Attributes:
        events: good rows in time order (ties: order of rows); columns row, time (UTC
            microseconds), label (int8 or null), number:*, category:*, entity:*, and kind where the
            schema names one.

    Raises:
        DataContractError: a file breaks the contract, or repeats an earlier one.
    """

    def __init__(
        self, path: Path, schema: Schema, until: date | None = None, needs_label: bool = True
    ) -> None:
        self.path = path
        self.schema = schema
        self._digests: list[str] = []
        parts, set_aside = [], []
        known, offset = pl.Series([], dtype=pl.String), 0
        tables = tables_of(path, "domain.data.path")
        for table in tables:
            file, raw = table.path, _read(table)
            events, aside = judge(raw, file, schema, needs_label)
            refuse_bad(file, aside, len(raw))
            if len(tables) > 1 and schema.id is not None:
                ids = raw.select(cell(schema.id)).to_series()
                events, again = _first_seen(events, ids, known, file, schema)
                aside, known = pl.concat([aside, again]), pl.concat([known, ids])
            events = events.with_columns(pl.col("row") + offset)
            offset += len(raw)
            if until is not None:
                events = _as_known(events, until, schema.label_delay)
            if len(events):
                self._digests.append(_digest(table))
            parts.append(events)
            set_aside.append(aside)
        self.events = pl.concat(parts, how="vertical_relaxed").sort("time", "row")
        self._set_aside = pl.concat(set_aside)

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of a single file; of several, of the digests of those that have
        rows before `until`, and of what their paths state."""
        if len(self._digests) == 1:
            return self._digests[0]
        return hashlib.sha256(" ".join(self._digests).encode()).hexdigest()

    def rows(self) -> pl.LazyFrame:
        return self.events.lazy().select(
            "row", pl.col("time").dt.date().alias("group"), "time", "label", weight=pl.lit(1.0)
        )

    def set_aside(self) -> pl.LazyFrame:
        return self._set_aside.lazy()

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        """Numbers and categories of these rows by the names of their columns."""
        chosen = self.events.filter(pl.col("row").is_in(rows.implode()))
        names = [c for c in chosen.columns if c.startswith(("number:", "category:"))]
        return chosen.select(pl.col(c).alias(c.split(":", 1)[1]) for c in names)


def _read(table: Table) -> pl.DataFrame:
    with told(table.path):
        return table.scan().collect(engine="streaming")


def _digest(table: Table) -> str:
    """Of the bytes of a file, and of the columns that its path states."""
    return " ".join([sha256(table.path), *(f"{k}={v}" for k, v in table.constants.items())])


def _first_seen(
    events: pl.DataFrame, ids: pl.Series, known: pl.Series, file: Path, schema: Schema
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events whose id no earlier file has, and the others as cells set aside."""
    again = ids.is_in(known.implode()).arg_true().cast(pl.Int64)
    again = events["row"].filter(events["row"].is_in(again.implode()))
    if len(again) > BAD_SHARE * len(ids):
        raise DataContractError(
            f"{file}: {len(again)} of {len(ids)} rows have a {schema.id} that an earlier file has, "
            f"more than {BAD_SHARE:.0%}; was it delivered twice? Take one of them away"
        )
    cells = pl.DataFrame({"row": again}).select(
        pl.lit(str(file)).alias("file"),
        "row",
        pl.lit(schema.id).alias("column"),
        pl.lit("a value of an earlier file").alias("found"),
        pl.lit("a value used for one row only").alias("expected"),
    )
    return events.filter(~pl.col("row").is_in(again.implode())), cells


def _as_known(events: pl.DataFrame, until: date, delay: int) -> pl.DataFrame:
    now = datetime(until.year, until.month, until.day, tzinfo=UTC)
    matured = pl.col("time") <= now - timedelta(microseconds=delay)
    return events.filter(pl.col("time") < now).with_columns(
        pl.when(matured).then("label").alias("label")
    )
