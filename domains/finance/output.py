"""The scored files: the input as it was, with the scores beside it, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.errors import ConfigError
from domains.finance.files import TransactionFiles
from domains.finance.formats import EXPECTED, suffix, unfit, write
from domains.finance.source import scan_raw, told

TOLD = ("model_version", "scored_at")
"""Columns that scoring adds beside the score."""


def check_out(source: TransactionFiles, out: Path) -> None:
    """Raises ConfigError for an output that the input, with scores, cannot be written to."""
    if source.several:
        _check_folder(source, out)
        return
    if not suffix(out):
        raise ConfigError(f"output: found {out.name}, expected a name in {EXPECTED}")
    if out.is_dir():
        raise ConfigError(f"output: {out} is a folder, expected a file name, as the input has")
    lost = [name for name, kind in source.columns().items() if unfit(kind, suffix(out))]
    if lost:
        raise ConfigError(
            f"output: found {out.name} for an input with {len(lost)} columns of a kind that it "
            "cannot hold: CSV holds no lists, structures, durations or bytes and JSON no bytes; "
            "expected a name in .parquet"
        )


def _check_folder(source: TransactionFiles, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"output: {out} is a file, expected a folder, as the input is several")
    here, there = out.resolve(), source.path.resolve()
    inside = any(table.path.resolve().is_relative_to(here) for table in source.tables)
    if inside or (there.is_dir() and here.is_relative_to(there)):
        raise ConfigError(f"output: {out} and the input lie in each other; name another folder")
    names = {table.name for table in source.tables}
    others = [p for p in out.rglob("*") if p.is_file() and str(p.relative_to(out)) not in names]
    if others:
        raise ConfigError(
            f"output: {out} holds {len(others)} files that this scoring does not write, such as "
            f"{others[0].name}; name another folder or empty it"
        )


def write_scored(
    source: TransactionFiles,
    rows: Sequence[int],
    scores: pl.DataFrame,
    constants: Mapping[str, Any],
    out: Path,
) -> str:
    """Write `out`, a file or a folder as the input is, and return its name.

    Args:
        rows: of each file of the input.
        scores: columns row (of the whole input, ascending), the score and what else is to be added.
        constants: columns with one value.
    """
    temporary = out.with_name(f"{out.name}.partial")
    folder = source.several
    first = 0
    for table, count in zip(source.tables, rows, strict=True):
        target = temporary / table.name if folder else temporary
        target.parent.mkdir(parents=True, exist_ok=True)
        mine = scores.filter(pl.col("row").is_between(first, first + count - 1))
        with told(table.path):
            rows_ = _with_scores(scan_raw(table.path), mine, first, count, constants)
            write(rows_, target, suffix(table.path if folder else out))
        first += count
    if folder and out.exists():
        old = out.with_name(f"{out.name}.old")
        os.replace(out, old)
        os.replace(temporary, out)
        shutil.rmtree(old)
    else:
        os.replace(temporary, out)
    return str(out)


def write_set_aside(set_aside: Path, out: Path) -> list[str]:
    """`<out>.set_aside.csv` where there is a row in `set_aside`; the name of what was written."""
    cells, target = pl.read_parquet(set_aside), out.with_name(out.name + ".set_aside.csv")
    if cells.is_empty():
        target.unlink(missing_ok=True)
        return []
    temporary = target.with_name(target.name + ".partial")
    cells.write_csv(temporary)
    os.replace(temporary, target)
    return [str(target)]


def _with_scores(
    raw: pl.LazyFrame, scores: pl.DataFrame, first: int, count: int, constants: Mapping[str, Any]
) -> pl.LazyFrame:
    """Rows that have a score, with it."""
    every = pl.DataFrame({"row": pl.int_range(first, first + count, eager=True)})
    beside = every.join(scores, on="row", how="left", maintain_order="left").drop("row")
    joined = pl.concat([raw, beside.lazy()], how="horizontal")
    added = {name: pl.lit(value, dtype=pl.String) for name, value in constants.items()}
    return joined.filter(pl.col(beside.columns[0]).is_not_null()).with_columns(**added)
