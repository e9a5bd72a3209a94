"""Rows of a file of labelled variants as they stand in it: one an alternative allele."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from core.errors import ConfigError, DataContractError
from domains.genomics.variant_table import column_of

_SEPARATOR = {".tsv": "\t", ".tsv.gz": "\t", ".csv": ",", ".csv.gz": ","}
_VARIANT_FILE = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
# What spreadsheets, R and pandas write where there is no value.
_MISSING = ("", ".", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
_SITE = ("chrom", "pos", "ref", "alt")
_RAW = {"row": pl.Int64, "chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String}


def read_rows(path: Path, names: list[str]) -> pl.DataFrame:
    """row, chrom, pos (1-based), ref, alt and the fields of these names (text, null where the
    allele has none), with what the file has there (`as_told`).

    Raises:
        ConfigError: unknown file type, or a field that the file does not declare.
        DataContractError: the file cannot be read.
    """
    for suffix, separator in _SEPARATOR.items():
        if path.name.endswith(suffix):
            return _from_table(path, names, separator)
    if path.name.endswith(_VARIANT_FILE):
        return _from_vcf(path, names)
    raise ConfigError(
        f"{path}: expected a name ending in {', '.join((*_VARIANT_FILE, *_SEPARATOR))}"
    )


def as_told(name: str) -> pl.Expr:
    """What the file has in a field of `read_rows`, for a message; null where it has nothing."""
    return pl.col(_told(name))


def _told(name: str) -> str:
    return f"{name} as told"


def _from_vcf(path: Path, names: list[str]) -> pl.DataFrame:
    """Rows of a VCF; a field of Number=A gives each allele its own value."""
    import pysam

    fields = [*names, *map(_told, names)]
    columns: dict[str, list] = {k: [] for k in (*_RAW, *fields)}
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
                        used, told = _of_allele(value, i, len(alternates))
                        columns[name].append(used)
                        columns[_told(name)].append(told)
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataContractError(
            f"{path}: pysam cannot read it ({error}); if it is compressed with plain gzip run "
            "gunzip and bgzip, if it is cut short copy it again"
        ) from error
    return pl.DataFrame(columns, schema={**_RAW, **dict.fromkeys(fields, pl.String)})


def _of_allele(value: object, index: int, alleles: int) -> tuple[str | None, str | None]:
    """The value of one of a record's alternatives, and what to say was found."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) == alleles and values[index] is not None:
        return str(values[index]), str(values[index])
    if value is None or len(values) == alleles:
        return None, None
    # One number for several alternatives says nothing of each.
    count = "one value" if len(values) == 1 else f"{len(values)} values"
    return None, f"{count} for {alleles} alternative{'s' if alleles > 1 else ''}"


def _from_table(path: Path, names: list[str], separator: str) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataContractError(f"{path}: cannot be read as a table ({error})") from error
    # A class with a blank behind it would count as another one.
    table = _with_usual_names(table, names).with_columns(pl.all().str.strip_chars())
    for name in (*_SITE, *names):
        if name not in table.columns:
            kind = "comma" if separator == "," else "tab"
            raise ConfigError(
                f"{path}: no column {name}; it has {', '.join(table.columns[:10])}; expected "
                f"{kind}-separated columns chrom, pos, ref, alt and the fields that the config "
                "names"
            )
    return table.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        "chrom",
        pl.col("pos").cast(pl.Int64, strict=False),
        "ref",
        "alt",
        *[pl.col(n).replace(dict.fromkeys(_MISSING)) for n in names],
        *[pl.col(n).alias(_told(n)) for n in names],
    )


def _with_usual_names(table: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """chrom, pos, ref and alt called so, where a file to score may call them otherwise too; columns
    that the config names keep their names."""
    found = {name: column_of(name) for name in table.columns if name not in fields}
    usual = list(found.values())
    rename = {n: u for n, u in found.items() if u in _SITE and usual.count(u) == 1}
    return table.rename(rename)
