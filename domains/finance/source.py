"""Transaction files in: read and checked against the contract, cell by cell."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from core.errors import DataContractError
from domains.finance.clock import cell
from domains.finance.formats import bad_line, check_file, is_json, is_packed, scan, suffix
from domains.finance.schema import Schema

BAD_SHARE = 0.01
"""Above this share of rows set aside, the file as a whole breaks the contract."""

_KINDS = {"letters": r"\pL", "digits": r"\pN", "spaces": r"\s", "signs": r"[^\pL\pN\s]"}
_LABELS = {"1": 1, "true": 1, "1.0": 1, "yes": 1, "0": 0, "false": 0, "0.0": 0, "no": 0}


def scan_raw(path: Path) -> pl.LazyFrame:
    """The rows of a file, not read yet.

    Raises:
        ConfigError: no such file, or one of another kind.
        DataContractError: its fields cannot be told.
    """
    check_file(path)
    with told(path):
        return scan(path)


@contextlib.contextmanager
def told(first: Path, *others: Path) -> Iterator[None]:
    """Turns what polars says of files that it cannot read into a sentence on the first of them,
    without its cells."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for path in (first, *others) if others else ():
            with told(path):
                collections.deque(scan_raw(path).collect_batches(), maxlen=0)
        raise DataContractError(_unreadable(first, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    # Its message may quote cells, and a cell may be an identifier: only its kind is told.
    if "utf-8" in str(error).lower() or "utf8" in str(error).lower():
        return (
            f"{path}: found bytes that are not UTF-8, expected a file in UTF-8; "
            "convert it, for example from Latin-1 by iconv -f LATIN1 -t UTF-8"
        )
    line = bad_line(path) if is_json(path) or is_packed(path) else None
    if line:
        return f"{path}: {line}"
    if is_json(path):
        expected = "one JSON object a line, and one kind of value in a field"
    elif suffix(path) == ".parquet":
        expected = "a complete Parquet file"
    else:
        expected = "one header and the same number of fields in every row"
    return f"{path}: cannot be read ({type(error).__name__}); expected {expected}"


def judge(
    raw: pl.DataFrame,
    path: Path,
    schema: Schema,
    needs_label: bool,
    first: int = 0,
    repeats: pl.Series | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Typed good rows in the order of `raw`, and the cells for which rows were set aside.

    Args:
        raw: rows of the file from its row `first` on.
        repeats: rows of the file whose id an earlier row has; found in `raw` when None.

    Raises:
        DataContractError: columns are missing.
    """
    told = [column for column in (schema.label, schema.kind) if column and needs_label]
    wanted = schema.columns + told
    missing = [column for column in wanted if column not in raw.columns]
    if missing or (needs_label and not schema.label):
        raise DataContractError(
            f"{path}: found no column {', '.join(missing) or 'for the label'}; the file has "
            f"{_known_names(raw, wanted)}; correct the file or its schema"
        )
    row = pl.int_range(first, first + pl.len(), dtype=pl.Int64)
    checks = _checks(raw, schema, None if repeats is None else ~row.is_in(repeats.implode()))
    typed = raw.select(
        row.alias("row"), *(check.value.alias(name) for name, check in checks.items())
    )
    if "label" not in typed.columns:
        typed = typed.with_columns(label=pl.lit(None, dtype=pl.Int8))
    if needs_label and schema.kind:
        typed = typed.with_columns(raw.select(kind=cell(schema.kind)))
    set_aside = pl.concat(
        [_bad_cells(raw, typed[name], path, check, first) for name, check in checks.items()]
    ).sort("row", "column")
    bad = set_aside["row"].unique()
    return typed.filter(~pl.col("row").is_in(bad.implode())).drop("id", strict=False), set_aside


def refuse_bad(path: Path, set_aside: pl.DataFrame, rows: int) -> None:
    """Raises DataContractError where too many rows of `path` (file or folder) were set aside."""
    bad = set_aside.select("file", "row").n_unique() if len(set_aside) else 0
    if bad > BAD_SHARE * rows:
        first = set_aside.row(0, named=True)
        file = "" if first["file"] == str(path) else f" of {first['file']}"
        raise DataContractError(
            f"{path}: {bad} of {rows} rows are unusable, more than {BAD_SHARE:.0%}; the "
            f"first is row {first['row']}{file}, column {first['column']}: found {first['found']}, "
            f"expected {first['expected']}; correct the file or its schema"
        )


class Check(NamedTuple):
    """What a cell must be: `value` is null where it is not, `optional` cells may be empty."""

    column: str
    value: pl.Expr
    optional: bool
    expected: str


def _checks(raw: pl.DataFrame, schema: Schema, fresh: pl.Expr | None) -> dict[str, Check]:
    """Checks by the name of the typed column; `fresh` says whether no earlier row has the id, None
    that no row lies outside of `raw`."""
    found: dict[str, Check] = {}
    if schema.id is not None:
        new = pl.col(schema.id).is_first_distinct() if fresh is None else fresh
        unique = pl.when(new).then(cell(schema.id))
        found["id"] = Check(schema.id, unique, False, "a value used for one row only")
    clock, amount = schema.time, schema.amount
    value = clock.value(raw, schema.time_zone)
    found["time"] = Check(clock.columns[-1], value, False, clock.expected)
    found[f"number:{amount}"] = Check(amount, _number(amount), False, "a number")
    for name, column in schema.entities.items():
        found[f"entity:{name}"] = Check(column, cell(column), False, "a value")
    for column in schema.numeric:
        found[f"number:{column}"] = Check(column, _number(column), False, "a number")
    for column in schema.categorical:
        found[f"category:{column}"] = Check(column, cell(column), True, "text")
    if schema.label and schema.label in raw.columns:
        label = cell(schema.label).str.to_lowercase()
        value = label.replace_strict(_LABELS, default=None, return_dtype=pl.Int8)
        found["label"] = Check(schema.label, value, True, "1, 0, true, false, yes, no or empty")
    return found


def _known_names(raw: pl.DataFrame, wanted: Sequence[str]) -> str:
    """Which of the wanted columns a file has. Other names are only counted: those of a file
    without a header are its first row, identifiers and all."""
    if len(raw.columns) == 1 and any(separator in raw.columns[0] for separator in ";\t|"):
        return (
            "one column only, and other signs than commas between its names: write it with commas"
        )
    known = [column for column in wanted if column in raw.columns]
    others = len(raw.columns) - len(known)
    return f"{', '.join(known) or 'none of the columns of the schema'} and {others} others"


def _bad_cells(
    raw: pl.DataFrame, value: pl.Series, path: Path, check: Check, first: int
) -> pl.DataFrame:
    """Cells that gave no value."""
    bad = value.is_null()
    if check.optional:
        bad &= raw.select(cell(check.column).is_not_null()).to_series()
    return (
        raw.with_row_index("row", offset=first)
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


def _shape(column: str) -> pl.Expr:
    """What a cell looks like, such as "6 characters, letters and digits", never what it says: in
    a row whose fields slipped, any column may hold an identifier."""
    text = pl.col(column).cast(pl.String).fill_null("")
    kinds = [pl.when(text.str.contains(c)).then(pl.lit(name)) for name, c in _KINDS.items()]
    named = pl.concat_list(kinds).list.drop_nulls().list.join(" and ")
    shape = pl.format("{} characters, {}", text.str.len_chars(), named)
    return pl.when(text == "").then(pl.lit("nothing")).otherwise(shape)


def _number(column: str) -> pl.Expr:
    # Some files write $12.50 for 12.50.
    plain = cell(column).str.replace(r"^(-?)[$€£¥]", "${1}")
    value = plain.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)
