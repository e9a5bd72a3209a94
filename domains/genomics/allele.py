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
from domains.genomics.config import GenomicsData
from domains.genomics.contig import Genome
from domains.genomics.labelled_event import with_events

log = logging.getLogger(__name__)

SET_ASIDE: Any = {
    "file": pl.String,
    "row": pl.Int64,
    "column": pl.String,
    "found": pl.String,
    "expected": pl.String,
}
_TABLE = (".tsv", ".tsv.gz")
_VARIANT_FILE = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
_RAW = {"row": pl.Int64, "chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String}


def read_labelled(
    data: GenomicsData, genome: Genome, longest: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labelled single-base substitutions that agree with the reference.

    Args:
        longest: read other alleles too, whose event has at most so many bases.

    Returns:
        used: row, chrom (FASTA name), pos (0-based), ref, alt (codes 0-3), label (float64),
            weight (float64 in (0, 1]), group_field (text or null), ordered by row. With `longest`
            also end and inserted as of `with_events`; of other alleles ref and alt are -1.
        set_aside: file, row, column, found, expected.

    Raises:
        ConfigError: unknown file type, or a named field that the file does not declare.
        DataContractError: unreadable file, or no usable row.
    """
    path = Path(data.variants or "")
    if not path.is_file():
        raise ConfigError(
            f"{data.variants}: no such file; data.variants must name a labelled VCF or TSV"
        )
    fields = [data.label, data.min_field, data.weight, data.split.field]
    names = [f for f in dict.fromkeys(fields) if f is not None]
    if path.name.endswith(_TABLE):
        raw = _from_table(path, names)
    elif path.name.endswith(_VARIANT_FILE):
        raw = _from_vcf(path, names)
    else:
        raise ConfigError(f"{path}: expected a name ending in {', '.join(_VARIANT_FILE + _TABLE)}")
    used, set_aside = _checked(path, raw, data, genome, longest)
    return (used if longest else used.drop("end", "inserted")), set_aside


def _from_vcf(path: Path, names: list[str]) -> pl.DataFrame:
    """Rows of a VCF; a field of Number=A gives each allele its own value."""
    import pysam

    columns: dict[str, list] = {k: [] for k in (*_RAW, *names)}
    try:
        with pysam.VariantFile(str(path)) as variants:
            for name in names:
                if name not in variants.header.info:
                    known = ", ".join(list(variants.header.info)[:8]) or "none"
                    raise ConfigError(
                        f"{path}: the header declares no INFO field {name}; it has {known}"
                    )
            for record in variants:
                alternates = record.alts or (".",)
                values = [record.info.get(name) for name in names]
                for i, alternate in enumerate(alternates):
                    columns["row"].append(len(columns["row"]))
                    columns["chrom"].append(record.chrom)
                    columns["pos"].append(record.pos)
                    columns["ref"].append(record.ref)
                    columns["alt"].append(alternate)
                    for name, value in zip(names, values, strict=True):
                        columns[name].append(_of_allele(value, i, len(alternates)))
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataContractError(
            f"{path}: pysam cannot read it ({error}); if it is compressed with plain gzip run "
            "gunzip and bgzip, if it is cut short copy it again"
        ) from error
    return pl.DataFrame(columns, schema={**_RAW, **dict.fromkeys(names, pl.String)})


def _of_allele(value: object, index: int, alleles: int) -> str | None:
    if isinstance(value, tuple):
        value = value[index] if len(value) == alleles else None
    elif alleles > 1 and value is not None:
        value = None  # one number for several alternatives says nothing of each
    return None if value is None else str(value)


def _from_table(path: Path, names: list[str]) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, separator="\t", infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataContractError(f"{path}: cannot be read as a table ({error})") from error
    for name in ("chrom", "pos", "ref", "alt", *names):
        if name not in table.columns:
            raise ConfigError(
                f"{path}: no column {name}; it has {', '.join(table.columns[:10])}; expected "
                "tab-separated columns chrom, pos, ref, alt and the fields that the config names"
            )
    return table.with_row_index("row").select(
        pl.col("row").cast(pl.Int64),
        "chrom",
        pl.col("pos").cast(pl.Int64, strict=False),
        "ref",
        "alt",
        *[pl.col(n).replace({".": None, "": None, "NA": None}) for n in names],
    )


def _checked(
    path: Path, raw: pl.DataFrame, data: GenomicsData, genome: Genome, longest: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    frame = raw.with_columns(
        chrom=pl.col("chrom").map_elements(genome.resolve, return_dtype=pl.String),
        pos=pl.col("pos") - 1,
        given_chrom=pl.col("chrom"),
        label=_label(data),
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
    ref, alt, label = pl.col("ref"), pl.col("alt"), pl.col(data.label)
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
        found = pl.col(data.weight)
        rules.append((data.weight, found, pl.col("weight").is_not_null(), "a number above 0"))
    if data.split.field:
        found = pl.col(data.split.field)
        rules.append((data.split.field, found, found.is_not_null(), "the name of a group"))
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
