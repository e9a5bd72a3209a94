"""Labelled alleles: one row an alternative allele, from VCF INFO or from a table.

What cannot be used is set aside with file, row, column, found and expected; nothing is dropped in
silence. Row ids count the alternative alleles of the file from 0, used or not.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.errors import ConfigError, DataContractError
from domains.genomics.contig import Genome
from domains.genomics.data_config import GenomicsData
from domains.genomics.label_file import as_told, read_rows
from domains.genomics.labelled_event import with_events

log = logging.getLogger(__name__)

SET_ASIDE: Any = {
    "file": pl.String,
    "row": pl.Int64,
    "column": pl.String,
    "found": pl.String,
    "expected": pl.String,
}


def read_labelled(
    data: GenomicsData, genome: Genome, longest: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labelled single-base substitutions that agree with the reference.

    Args:
        longest: read other alleles too, whose event has at most so many bases.

    Returns:
        used: row, chrom (FASTA name), pos (0-based), ref, alt (codes 0-3), label (float64),
            weight (float64 in (0, 1]), group_field (text or null), given (the label as the file
            has it), ordered by row. With `longest`
            also end and inserted as of `with_events`; of other alleles ref and alt are -1.
        set_aside: file, row, column, found, expected.

    Raises:
        ConfigError: unknown file type, or a named field that the file does not declare.
        DataContractError: unreadable file, no usable row, or none with `min_value`.
    """
    path = Path(data.variants or "")
    if not path.is_file():
        raise ConfigError(
            f"{data.variants}: no such file; data.variants must name a labelled VCF or TSV"
        )
    fields = [data.label, data.min_field, data.weight, data.split.field]
    names = [f for f in dict.fromkeys(fields) if f is not None]
    used, set_aside = _checked(path, read_rows(path, names), data, genome, longest)
    return (used if longest else used.drop("end", "inserted")), set_aside


def _checked(
    path: Path, raw: pl.DataFrame, data: GenomicsData, genome: Genome, longest: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    frame = raw.with_columns(
        chrom=pl.col("chrom").map_elements(genome.resolve, return_dtype=pl.String),
        pos=pl.col("pos") - 1,
        given_chrom=pl.col("chrom"),
        label=_label(data),
        given=pl.col(data.label),
        weight=_weight(data),
        group_field=pl.col(data.split.field) if data.split.field else pl.lit(None, pl.String),
    )
    frame = with_events(frame, genome, longest)
    frame = frame.with_columns(reference=pl.Series(_reference(frame, genome), dtype=pl.String))
    aside: list[pl.DataFrame] = []
    for column, found, good, expected in _rules(data, longest):
        bad = frame.filter(~good.fill_null(False))
        frame = frame.filter(good.fill_null(False))
        told = (
            pl.lit(str(path)).alias("file"),
            pl.col("row"),
            pl.lit(column).alias("column"),
            found.cast(pl.String).alias("found"),
            expected.cast(pl.String).alias("expected"),
        )
        aside.append(bad.select(told))
    set_aside = pl.concat(aside).cast(SET_ASIDE).sort("row")
    return _used(path, _enough(frame, data, path), set_aside), set_aside


_Rule = tuple[str, pl.Expr, pl.Expr, pl.Expr]


def _rules(data: GenomicsData, longest: int) -> list[_Rule]:
    """Column, what is found in it, whether that is good, what was expected; in order of check."""
    single = r"^[ACGTacgt]$"
    ref, alt, label = pl.col("ref"), pl.col("alt"), as_told(data.label)
    event = pl.col("inserted").is_not_null()
    one = f"one base, or bases in an event of at most {longest}" if longest else "one base"
    allele = ("chrom", "pos", "end", pl.col("alt").str.to_uppercase())
    first = pl.struct(*allele).is_first_distinct()
    placed = pl.col("reference").is_not_null()
    rules = [
        ("chrom", pl.col("given_chrom"), pl.col("chrom").is_not_null(), "a contig of the FASTA"),
        ("pos", pl.col("pos") + 1, event | placed, "a place on the contig"),
        ("ref", ref, event | ref.str.contains(single), one),
        ("alt", alt, event | alt.str.contains(single), one),
        ("ref", ref, event | _same_base("ref", "reference"), pl.col("reference")),
        ("alt", alt, event | ~_same_base("alt", "ref"), "a base other than REF"),
        (data.label, label, pl.col("label").is_not_null(), _expected_label(data)),
        ("alt", alt, first, "one row an allele"),
    ]
    if data.weight:
        found = as_told(data.weight)
        rules.append((data.weight, found, pl.col("weight").is_not_null(), "a number above 0"))
    if data.split.field:
        found, group = as_told(data.split.field), pl.col(data.split.field)
        rules.append((data.split.field, found, group.is_not_null(), "the name of a group"))
    return [(c, f, g, pl.lit(e) if isinstance(e, str) else e) for c, f, g, e in rules]


def _used(path: Path, frame: pl.DataFrame, set_aside: pl.DataFrame) -> pl.DataFrame:
    if frame.is_empty():
        first = "" if set_aside.is_empty() else f"; first row set aside: {set_aside.row(0)}"
        raise DataContractError(f"{path}: no labelled single-base substitution is usable{first}")
    if len(set_aside):
        log.warning("%s: %d of the rows are set aside", path, len(set_aside))
    codes = {base: code for code, base in enumerate("ACGT")}
    codes |= {base.lower(): number for base, number in codes.items()}

    def code(name: str) -> pl.Expr:
        single = pl.when(pl.col("inserted").is_null()).then(pl.col(name))
        return single.replace_strict(codes, return_dtype=pl.Int64).fill_null(-1).alias(name)

    return frame.select(
        "row",
        "chrom",
        "pos",
        code("ref"),
        code("alt"),
        "label",
        "weight",
        "group_field",
        "given",
        "end",
        "inserted",
    ).sort("row")


def _enough(frame: pl.DataFrame, data: GenomicsData, path: Path) -> pl.DataFrame:
    if data.min_field is None:
        return frame
    value = pl.col(data.min_field).cast(pl.Float64, strict=False)
    kept = frame.filter((value >= data.min_value).fill_null(False))
    log.info(
        "%s: %d of %d rows have %s >= %g",
        path,
        len(kept),
        len(frame),
        data.min_field,
        data.min_value,
    )
    if kept.is_empty() and len(frame):
        largest = frame.select(value.max()).item()
        told = "no row has a number there" if largest is None else f"its largest is {largest:g}"
        raise DataContractError(
            f"{path}: found no row with {data.min_field} of {data.min_value:g} or more "
            f"(data.min_field, data.min_value) among the {len(frame)} usable ones; {told}"
        )
    return kept


def _label(data: GenomicsData) -> pl.Expr:
    column = pl.col(data.label)
    if data.label_kind == "classification":
        positive = column.is_in(list(data.positive))
        return pl.when(column.is_null()).then(None).otherwise(positive.cast(pl.Float64))
    number = column.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _expected_label(data: GenomicsData) -> str:
    return "a class" if data.label_kind == "classification" else "a finite number"


def _weight(data: GenomicsData) -> pl.Expr:
    if data.weight is None:
        return pl.lit(1.0)
    number = pl.col(data.weight).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite() & (number > 0)).then(number / (number + data.weight_half))


def _same_base(one: str, other: str) -> pl.Expr:
    # An ambiguity code in the reference is N here and contradicts no base.
    same = pl.col(one).str.to_uppercase() == pl.col(other).str.to_uppercase()
    return same | (pl.col(other) == "N")


def _reference(frame: pl.DataFrame, genome: Genome) -> list[str | None]:
    """The FASTA's base of each row, null where the row lies on no known position."""
    out: list[str | None] = [None] * len(frame)
    letters = np.array(list("ACGTN"))
    for chrom in frame["chrom"].unique().drop_nulls():
        sequence = genome.contigs[chrom]
        here = (frame["chrom"] == chrom).fill_null(False).to_numpy()
        pos = frame["pos"].fill_null(-1).to_numpy()
        inside = np.flatnonzero(here & (pos >= 0) & (pos < len(sequence)))
        for i, base in zip(inside, letters[sequence[pos[inside]]], strict=True):
            out[i] = str(base)
    return out
