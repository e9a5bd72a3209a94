"""What a scoring reads: a file of transactions, a folder of them or those that a pattern names, a
batch of rows at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from core.digest import sha256
from core.errors import ConfigError
from core.globs import root_and_named
from domains.finance.clock import cell
from domains.finance.formats import EXPECTED, check_file, suffix
from domains.finance.schema import Schema
from domains.finance.source import judge, refuse_bad, scan_raw, told

BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Table:
    """One file.

    Args:
        name: its place in the folder, of a pattern the folder in which names begin to differ; of a
            file on its own, its name.
        constants: columns that the path states, as in `date=2024-03-01/part-0.parquet`.
    """

    path: Path
    name: str
    constants: Mapping[str, str] = field(default_factory=dict)

    def scan(self) -> pl.LazyFrame:
        """Rows with the columns of the path, behind those of the file, which count where both
        have one."""
        rows = scan_raw(self.path)
        with told(self.path):
            own = rows.collect_schema().names()
        added = {k: v for k, v in self.constants.items() if k not in own}
        return rows.with_columns(**{name: pl.lit(value) for name, value in added.items()})

    def batches(self) -> Iterator[pl.DataFrame]:
        """Rows in order, some at a time, none at first: a file without rows has columns too."""
        rows = self.scan()
        with told(self.path):
            yield rows.head(0).collect()
            yield from rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)


@dataclass(frozen=True)
class Batch:
    """Rows of a file, judged.

    Args:
        rows: good and bad.
        events: the good ones; row is the place in the file.
        set_aside: the cells of the bad ones.
    """

    table: Table
    rows: int
    events: pl.DataFrame
    set_aside: pl.DataFrame


class TransactionFiles:
    """Opened, not read.

    A row's number counts through all files in the order of their names, the first row of data
    being 0.

    Attributes:
        path: the file, the folder or the pattern.
        several: whether it is a folder or a pattern.
        tables: its files.
        history: earlier files, whose rows are context only.

    Raises:
        ConfigError: no such file, or none in the folder or of the pattern.
    """

    def __init__(self, path: Path, schema: Schema, history: Path | None) -> None:
        self.path = path
        self.schema = schema
        self.tables = tables_of(path)
        self.several = not path.is_file()
        self.history = [] if history is None else tables_of(history, "history")

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of the input file; of several or with history, of names and
        digests."""
        if not self.several and not self.history:
            return sha256(self.path)
        own = [f"{table.name} {sha256(table.path)}" for table in self.tables]
        before = [sha256(table.path) for table in self.history]
        return hashlib.sha256("\n".join([*own, "after", *before]).encode()).hexdigest()

    def columns(self) -> dict[str, pl.DataType]:
        """Columns that any of the input's files has, those of paths not among them."""
        found: dict[str, pl.DataType] = {}
        for table in self.tables:
            with told(table.path):
                found |= scan_raw(table.path).collect_schema()
        return found

    def judged(self, tables: Sequence[Table]) -> Iterator[Batch]:
        """Every row of `tables`, judged.

        Raises:
            DataContractError: a file breaks the contract as a whole.
        """
        repeats, aside, rows = self._repeats(tables), list[pl.DataFrame](), 0
        for number, table in enumerate(tables):
            again, first = repeats.filter(pl.col("table") == number)["row"], 0
            for raw in table.batches():
                events, bad = judge(raw, table.path, self.schema, False, first, again)
                yield Batch(table, len(raw), events, bad)
                aside.append(bad)
                first += len(raw)
            rows += first
        if aside:
            where = tables[0].path if len(tables) == 1 else self.path
            refuse_bad(where, pl.concat(aside), rows)

    def _repeats(self, tables: Sequence[Table]) -> pl.DataFrame:
        """Columns table (place in `tables`), row: whose id an earlier row of `tables` has."""
        rows, column = [], self.schema.id
        for number, table in enumerate(tables):
            known = table.scan()
            if column is None or column not in known.collect_schema():
                continue  # `judge` says what is missing
            ids = known.select(id=cell(column)).with_row_index("row")
            rows.append(ids.with_columns(pl.col("row").cast(pl.Int64), table=pl.lit(number)))
        if not rows:
            return pl.DataFrame(schema={"row": pl.Int64, "table": pl.Int32})
        again = ~pl.col("id").is_first_distinct() & pl.col("id").is_not_null()
        with told(*(table.path for table in tables)):
            found = pl.concat(rows).filter(again).select("row", "table").collect(engine="streaming")
        return found


def tables_of(path: Path, setting: str = "input") -> list[Table]:
    """The file of that name, brackets and all; else the files of a known format in the folder and
    the folders in it, or in all that a pattern such as `day-*` or `**/day.csv` names. By name;
    hidden ones are not looked at.

    Raises:
        ConfigError: there is none, or the pattern names a file of another kind.
    """
    if path.is_file():
        check_file(path)
        return [Table(path, path.name)]
    root, named = root_and_named(path)
    if not named:
        raise ConfigError(
            f"{setting}: found no file at {path}, expected a file, a folder or a glob of files in "
            f"{EXPECTED}"
        )
    places = sorted({file.relative_to(root) for one in named for file in _files(one)})
    shown = [place for place in places if not any(part[0] in "._" for part in place.parts)]
    if not shown:
        raise ConfigError(f"{path}: found no file in {EXPECTED}; expected at least one")
    for place in shown:
        check_file(root / place)
    return [Table(root / place, str(place), _constants(place)) for place in shown]


def _files(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named]
    return [file for file in named.rglob("*") if suffix(file) and file.is_file()]


def _constants(place: Path) -> dict[str, str]:
    """Hive's key=value folders."""
    pairs = (part.partition("=") for part in place.parent.parts)
    return {key: value for key, equals, value in pairs if equals}
