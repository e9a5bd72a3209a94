"""When a transaction happened: one column of times, several that make one, or a count from an
origin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from core.errors import ConfigError

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds."""
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
_ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Clock:
    """Args:
    columns: of the time; several are joined by single spaces and read by `format`.
    format: of strptime; ISO times where there is none.
    unit, origin: the column counts such units (`UNITS`) since that ISO time. None: it doesn't.
    """

    columns: tuple[str, ...]
    format: str | None = None
    unit: str | None = None
    origin: str | None = None

    @staticmethod
    def parse(where: str, stated: Any) -> Clock:
        """What a schema's `time` says: a column, {columns: [...], format: ...}, or
        {column: ..., unit: ..., origin: ...}.

        Raises:
            ConfigError: something else.
        """
        if isinstance(stated, str):
            return Clock((stated,))
        keys = set(stated) if isinstance(stated, dict) else set()
        if keys == {"columns", "format"} and stated["columns"]:
            return Clock(tuple(stated["columns"]), str(stated["format"]))
        if keys == {"column", "unit", "origin"}:
            clock = Clock((stated["column"],), None, str(stated["unit"]), str(stated["origin"]))
            if clock.unit in UNITS and _iso(clock.origin) is not None:
                return clock
        raise ConfigError(
            f"{where}: time: found {stated!r}, expected a column; or {{columns: [Day, Time], "
            "format: '%Y-%m-%d %H:%M'}; or {column: step, unit: h, origin: 2024-01-01} with unit "
            f"one of {', '.join(UNITS)}"
        )

    def stated(self) -> Any:
        """What `parse` reads."""
        if self.unit is not None:
            return {"column": self.columns[0], "unit": self.unit, "origin": self.origin}
        if self.format is not None:
            return {"columns": list(self.columns), "format": self.format}
        return self.columns[0]

    @property
    def expected(self) -> str:
        """What a cell must hold, for messages."""
        if self.unit is not None:
            return f"a number of {self.unit} since {self.origin}"
        if self.format is not None:
            return f"a time such as {self.format}"
        return "a time such as 2018-08-01 13:45:00, or its format in the schema's time"

    def value(self, raw: pl.DataFrame, zone: str) -> pl.Expr:
        """UTC microseconds, null where the cells give none; `zone` of times without an offset."""
        first = self.columns[0]
        if self.unit is not None:
            origin, seconds = _iso(self.origin), UNITS[self.unit]
            count = cell(first).cast(pl.Float64, strict=False)
            ticks = pl.when(count.is_finite()).then((count * seconds * 1e6).round())
            span = ticks.cast(pl.Int64, strict=False).cast(pl.Duration("us"))
            return _placed(pl.lit(origin, dtype=pl.Datetime("us")) + span, zone)
        if self.format is not None:
            joined = pl.concat_str([cell(column) for column in self.columns], separator=" ")
            value = joined.str.to_datetime(self.format, strict=False, time_unit="us")
            return _placed(value, zone)
        return _iso_time(raw.schema[first], first, zone)


def cell(column: str) -> pl.Expr:
    """Stripped text, empty as null."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _iso(text: str | None) -> datetime | None:
    """A local time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is None else None


def _iso_time(kind: pl.DataType, column: str, zone: str) -> pl.Expr:
    if isinstance(kind, pl.Datetime):
        value = pl.col(column).dt.cast_time_unit("us")
        return value.dt.convert_time_zone("UTC") if kind.time_zone else _placed(value, zone)
    text = cell(column)
    naive = [text.str.to_datetime(f, strict=False, time_unit="us") for f in _FORMATS]
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
