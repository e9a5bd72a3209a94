"""Transaction files in: read, checked against the contract, kept beside their original text."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from core.contract import Partition
from core.errors import ConfigError, DataContractError
from domains.finance.schema import Schema

BAD_SHARE = 0.01
"""Above this share of rows set aside, the file as a whole breaks the contract."""

PART_ROWS = 250_000
_KINDS = {"letters": r"\pL", "digits": r"\pN", "spaces": r"\s", "signs": r"[^\pL\pN\s]"}
_TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
_ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z")
_LABELS = {"1": 1, "true": 1, "1.0": 1, "0": 0, "false": 0, "0.0": 0}


class TransactionSource:
    """One file of transactions, with earlier ones as context where there are any.

    A row's number is its place in the file, the first row of data being 0.

    Attributes:
        raw: the input as it was: text for CSV, own types for Parquet.
        events: good rows in time order (ties: order of rows); columns row, time (UTC
            microseconds), label (int8 or null), number:*, category:*, entity:*.
        history: the same of earlier files, or None. Their rows are never scored.
    """

    def __init__(self, path: Path, schema: Schema, history: Path | None) -> None:
        self.path = path
        self.schema = schema
        self.raw = read_raw(path)
        self.events, self._set_aside = read_events(self.raw, path, schema, needs_label=False)
        self.history: pl.DataFrame | None = None
        self._history_paths: list[Path] = []
        if history is not None:
            self._history_paths = _history_paths(history)
            self.history, set_aside = _read_history(self._history_paths, schema)
            self._set_aside = pl.concat([self._set_aside, set_aside])

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of the input file; with history, of its digest and theirs."""
        own = sha256(self.path)
        if not self._history_paths:
            return own
        digests = [own, *(sha256(path) for path in self._history_paths)]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

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

    def partitions(self) -> Sequence[Partition]:
        """Consecutive stretches of time; each carries the stream's state to the next."""
        count = max(1, -(-len(self.events) // PART_ROWS))
        return [Partition(f"part-{i:05d}", i, carries_state=True) for i in range(count)]

    def part(self, order: int) -> pl.DataFrame:
        """Events of one partition."""
        return self.events.slice(order * PART_ROWS, PART_ROWS)


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_raw(path: Path) -> pl.DataFrame:
    """CSV as text, so that no identifier loses a leading zero; Parquet as it is."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected one CSV or Parquet file")
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path, glob=False)
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        # Its message may quote cells, and a cell may be an identifier: only its kind is told.
        if "utf-8" in str(error).lower() or "utf8" in str(error).lower():
            raise DataContractError(
                f"{path}: found bytes that are not UTF-8, expected a {path.suffix} file in UTF-8; "
                "convert it, for example from Latin-1 by iconv -f LATIN1 -t UTF-8"
            ) from None
        raise DataContractError(
            f"{path}: cannot be read ({type(error).__name__}); expected a {path.suffix} file with "
            "one header and the same number of fields in every row"
        ) from None
    raise ConfigError(f"{path}: found suffix {path.suffix!r}, expected .csv or .parquet")


def read_events(
    raw: pl.DataFrame, path: Path, schema: Schema, needs_label: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Typed good rows in time order, and the cells for which rows were set aside.

    Raises:
        DataContractError: columns are missing, or too many rows are bad.
    """
    wanted = schema.columns + ([schema.label] if needs_label and schema.label else [])
    missing = [column for column in wanted if column not in raw.columns]
    if missing or (needs_label and not schema.label):
        raise DataContractError(
            f"{path}: found no column {', '.join(missing) or 'for the label'}; the file has "
            f"{_known_names(raw, wanted)}; correct the file or its schema"
        )
    checks = _checks(raw, schema)
    typed = raw.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        *(check.value.alias(name) for name, check in checks.items()),
    )
    if "label" not in typed.columns:
        typed = typed.with_columns(label=pl.lit(None, dtype=pl.Int8))
    set_aside = pl.concat(
        [_bad_cells(raw, typed[name], path, check) for name, check in checks.items()]
    ).sort("row", "column")
    bad = set_aside["row"].unique()
    if len(bad) > BAD_SHARE * len(raw):
        first = set_aside.row(0, named=True)
        raise DataContractError(
            f"{path}: {len(bad)} of {len(raw)} rows are unusable, more than {BAD_SHARE:.0%}; the "
            f"first is row {first['row']}, column {first['column']}: found {first['found']}, "
            f"expected {first['expected']}; correct the file or its schema"
        )
    good = typed.filter(~pl.col("row").is_in(bad.implode())).drop("id")
    return good.sort("time", "row"), set_aside


class Check(NamedTuple):
    """What a cell must be: `value` is null where it is not, `optional` cells may be empty."""

    column: str
    value: pl.Expr
    optional: bool
    expected: str


def _checks(raw: pl.DataFrame, schema: Schema) -> dict[str, Check]:
    """Checks by the name of the typed column."""
    unique = pl.when(pl.col(schema.id).is_first_distinct()).then(text_of(schema.id))
    amount, when = schema.amount, "a time such as 2018-08-01 13:45:00"
    found = {
        "id": Check(schema.id, unique, False, "a value used for one row only"),
        "time": Check(schema.time, _time(raw, schema), False, when),
        f"number:{amount}": Check(amount, _number(amount), False, "a number"),
    }
    for name, column in schema.entities.items():
        found[f"entity:{name}"] = Check(column, text_of(column), False, "a value")
    for column in schema.numeric:
        found[f"number:{column}"] = Check(column, _number(column), False, "a number")
    for column in schema.categorical:
        found[f"category:{column}"] = Check(column, text_of(column), True, "text")
    if schema.label and schema.label in raw.columns:
        label = text_of(schema.label).str.to_lowercase()
        value = label.replace_strict(_LABELS, default=None, return_dtype=pl.Int8)
        found["label"] = Check(schema.label, value, True, "1, 0, true, false or empty")
    return found


def _known_names(raw: pl.DataFrame, wanted: Sequence[str]) -> str:
    """Which of the wanted columns a file has. Other names are only counted: those of a file
    without a header are its first row, identifiers and all."""
    known = [column for column in wanted if column in raw.columns]
    others = len(raw.columns) - len(known)
    return f"{', '.join(known) or 'none of the columns of the schema'} and {others} others"


def _bad_cells(raw: pl.DataFrame, value: pl.Series, path: Path, check: Check) -> pl.DataFrame:
    """Cells that gave no value."""
    bad = value.is_null()
    if check.optional:
        bad &= raw.select(text_of(check.column).is_not_null()).to_series()
    return (
        raw.with_row_index("row")
        .filter(bad)
        .rechunk()  # Polars 2.1 panics where a filter leaves an empty chunk.
        .select(
            pl.lit(str(path)).alias("file"),
            pl.col("row").cast(pl.Int64),
            pl.lit(check.column).alias("column"),
            _shape(check.column).alias("found"),
            pl.lit(check.expected).alias("expected"),
        )
    )


def text_of(column: str) -> pl.Expr:
    """Stripped text, empty as null."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _shape(column: str) -> pl.Expr:
    """What a cell looks like, such as "6 characters, letters and digits", never what it says: in
    a row whose fields slipped, any column may hold an identifier."""
    text = pl.col(column).cast(pl.String).fill_null("")
    kinds = [pl.when(text.str.contains(c)).then(pl.lit(name)) for name, c in _KINDS.items()]
    named = pl.concat_list(kinds).list.drop_nulls().list.join(" and ")
    told = pl.format("{} characters, {}", text.str.len_chars(), named)
    return pl.when(text == "").then(pl.lit("nothing")).otherwise(told)


def _number(column: str) -> pl.Expr:
    value = text_of(column).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _time(raw: pl.DataFrame, schema: Schema) -> pl.Expr:
    column, zone = schema.time, schema.time_zone
    kind = raw.schema[column]
    if isinstance(kind, pl.Datetime):
        value = pl.col(column).dt.cast_time_unit("us")
        return value.dt.convert_time_zone("UTC") if kind.time_zone else _placed(value, zone)
    text = text_of(column)
    naive = [text.str.to_datetime(f, strict=False, time_unit="us") for f in _TIME_FORMATS]
    zoned = [
        text.str.replace(r"Z$", "+00:00").str.to_datetime(f, strict=False, time_unit="us")
        for f in _ZONED_FORMATS
    ]
    return pl.coalesce(
        *(_placed(value, zone) for value in naive),
        *(value.dt.convert_time_zone("UTC") for value in zoned),
    )


def _placed(value: pl.Expr, zone: str) -> pl.Expr:
    """Local time to UTC. The hour that a clock change repeats counts as its first pass, and one
    that it skips as no time at all."""
    local = value.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _history_paths(history: Path) -> list[Path]:
    """The file of that name, brackets and all, or those that the glob names."""
    paths = [history] if history.exists() else [Path(p) for p in sorted(glob.glob(str(history)))]
    if not paths:
        raise ConfigError(f"history: found no file {history}, expected one or a glob of several")
    return paths


def _read_history(paths: Sequence[Path], schema: Schema) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All files as one run of events without rows of their own."""
    parts = [read_events(read_raw(path), path, schema, needs_label=False) for path in paths]
    events = pl.concat([part[0] for part in parts]).sort("time", maintain_order=True)
    set_aside = pl.concat([part[1] for part in parts])
    return events.with_columns(row=pl.lit(-1, dtype=pl.Int64)), set_aside
