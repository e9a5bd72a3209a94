"""Scores as Parquet: one row an alternative allele, with the keys that lead back to the input."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from core.contract import Summary
from domains.genomics.scored import summary_of

KEYS = {
    "record": pl.Int64(),
    "alternative": pl.Int64(),
    "chrom": pl.String(),
    "pos": pl.Int64(),
    "ref": pl.String(),
    "alt": pl.String(),
}
WORDS = {
    "reason": pl.String(),
    "warning": pl.String(),
    "consequence": pl.String(),
    "csq": pl.String(),
}


def write_table(
    scored: Iterator[pl.DataFrame], header: Sequence[str], out: Path, numbers: Sequence[str]
) -> Summary:
    """Columns record (number in the file from 1), alternative (number in ALT from 1, 0 where a
    record has none), chrom, pos (1-based), ref, alt as in the file, each of `numbers`, reason,
    warning, consequence, csq; the lines of `header` are in the file's metadata as `longstrand`.

    The table is streamed from frame to frame and written whole or not at all.
    """
    counts: Counter[str] = Counter()

    def counted() -> Iterator[pl.DataFrame]:
        for frame in scored:
            counts.update(dict(frame["reason"].value_counts().iter_rows()))
            yield frame.with_columns(pl.col("record") + 1, pl.col("alternative") + 1)

    schema = {**KEYS, **dict.fromkeys(numbers, pl.Float64()), **WORDS}
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.partial")
    try:
        _write(counted(), schema, header, temporary)
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return summary_of(counts, [str(out)])


def _write(
    frames: Iterator[pl.DataFrame],
    schema: Mapping[str, pl.DataType],
    header: Sequence[str],
    path: Path,
) -> None:
    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        # The sink asks for everything: no columns, predicate or number of rows to narrow to.
        for frame in frames:
            yield frame.select(pl.col(name).cast(kind) for name, kind in schema.items())

    lazy = register_io_source(batches, schema=dict(schema))
    lazy.sink_parquet(path, metadata={"longstrand": "\n".join(header)}, engine="streaming")
