"""Which files hold transactions: CSV and JSON lines, plain or compressed, and Parquet."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal, NoReturn

import polars as pl

from core.errors import ConfigError

_TEXTS = (".csv", ".jsonl", ".ndjson")
_Packing = Literal["uncompressed", "gzip", "zstd"]
_PACKED: dict[str, _Packing] = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (".parquet", *_TEXTS, *(text + packed for text in _TEXTS for packed in _PACKED))
EXPECTED = f".parquet, {', '.join(_TEXTS)} or one of these three with .gz or .zst after it"
ROW_GROUP = 1 << 17
"""Rows; stated, because what polars takes by itself depends on its number of threads."""


def suffix(path: Path) -> str:
    """The one of `SUFFIXES` that the name ends in, whatever its case; "" for another file."""
    return next((end for end in SUFFIXES if path.name.lower().endswith(end)), "")


def is_json(path: Path) -> bool:
    return suffix(path).startswith((".jsonl", ".ndjson"))


def is_packed(path: Path) -> bool:
    return suffix(path).endswith(tuple(_PACKED))


def check_file(path: Path) -> None:
    """Raises ConfigError where there is no file, or one of another kind."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected one in {EXPECTED}")
    if not suffix(path):
        raise ConfigError(f"{path}: found suffix {path.suffix!r}, expected {EXPECTED}")


def scan(path: Path) -> pl.LazyFrame:
    """CSV as text, so that no identifier loses a leading zero; others with the types that they
    have."""
    if suffix(path) == ".parquet":
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if is_json(path):
        about = path.stat()
        return pl.scan_ndjson(path, schema=_kinds(path, about.st_mtime_ns, about.st_size))
    return pl.scan_csv(path, infer_schema=False, glob=False)


@functools.lru_cache(maxsize=1024)
def _kinds(path: Path, changed: int, size: int) -> pl.Schema:
    """Of every field that some line has, looked for once in each state of a file: the last line
    may be the first with a field."""
    return pl.scan_ndjson(path, infer_schema_length=None).collect_schema()


def unfit(kind: pl.DataType, end: str) -> bool:
    """Whether a file of this suffix cannot hold such a column."""
    if end.startswith(".csv"):
        return kind.is_nested() or kind in (pl.Binary, pl.Duration)
    return kind == pl.Binary and end != ".parquet"


def write(rows: pl.LazyFrame, out: Path, end: str) -> None:
    """To `out` as a file of this suffix, whatever the name of `out`."""
    packed: _Packing = _PACKED.get(Path(end).suffix, "uncompressed")
    if end == ".parquet":
        rows.sink_parquet(out, row_group_size=ROW_GROUP)
    elif end.startswith(".csv"):
        rows.sink_csv(out, compression=packed, check_extension=False)
    else:
        rows.sink_ndjson(out, compression=packed, check_extension=False)


def bad_line(path: Path) -> str | None:
    """Of a text that polars could not read, the first line that cannot be: where, found and
    expected, without a word of it. None where every line could be."""
    number, kinds = 0, dict[str, tuple[str, int]]()
    try:
        for batch in pl.scan_lines(path, glob=False).collect_batches(maintain_order=True):
            for text in batch["line"] if is_json(path) else ():
                number += 1
                wrong = _wrong(text, number, kinds) if text.strip() else None
                if wrong:
                    return f"line {number}: found {wrong}"
            number += 0 if is_json(path) else len(batch)
    except OSError:
        return (
            f"line {number} or later: found the end of the compressed bytes, or broken ones, "
            "expected more; copy the file again"
        )
    if is_json(path) and not kinds:
        return "found no line with a field, expected one JSON object a line"
    return None


def _wrong(text: str, number: int, kinds: dict[str, tuple[str, int]]) -> str | None:
    """What is wrong with a line; `kinds` are those of the fields so far, and their lines."""
    object_ = "expected one JSON object a line"
    if text.startswith("\ufeff"):
        return f"a byte order mark, {object_} without it"
    try:
        stated = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return f"{len(text)} characters that are not JSON, {object_}"
    if not isinstance(stated, dict):
        return f"{_kind(stated)}, {object_}"
    for name, value in stated.items():
        kind = _kind(value)
        before, line = kinds.setdefault(name, (kind, number)) if value is not None else (kind, 0)
        if kind != before and "text" not in (kind, before):
            return f"{kind} in a field with {before} on line {line}, expected one kind in a field"
    return None


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else names.get(type(value), "a number")


def _no_number(text: str) -> NoReturn:
    raise ValueError("JSON has no NaN and no infinity")
