"""Tables of variants as VCF records: tab, comma or space between columns that have names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from core.errors import ConfigError

HEADER = (b"##fileformat=VCFv4.3\n", b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
_NEEDED = ("chrom", "pos", "ref", "alt")
_SYNONYM = {"chr": "chrom", "chromosome": "chrom", "contig": "chrom", "position": "pos"}


def column_of(name: str) -> str:
    """chrom, pos, ref, alt or id, where a column's name means one of them in any spelling; else the
    name in small letters."""
    return _SYNONYM.get(name.lower(), name.lower())


@dataclass(frozen=True)
class Layout:
    """Where a table's columns are: separator (None is any white space), the column of each of
    chrom, pos, ref, alt and, where there is one, id, and whether the first line names them."""

    separator: bytes | None
    column: dict[str, int]
    named: bool


def read_layout(path: Path, first: bytes, columns: Sequence[str]) -> Layout:
    """How to read a table.

    Args:
        first: the table's first line.
        columns: names in order; none where the first line holds them.

    Raises:
        ConfigError: chrom, pos, ref and alt are not all named.
    """
    if first.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(
            f"{path}:1: begins with a byte order mark, expected ##fileformat=VCF or the names of "
            "columns; save the file as UTF-8 without a byte order mark"
        )
    # An ALT may hold commas, so the separator is the one that gives the most cells.
    separator = max((b"\t", b",", None), key=lambda s: len(first.split(s)))
    cells = [c.decode("utf-8", "replace") for c in _cells(first, separator)]
    names = [column_of(c) for c in (columns or cells)]
    missing = [n for n in _NEEDED if n not in names]
    if missing:
        where = "config.scoring.columns names" if columns else "the first line holds"
        raise ConfigError(
            f"{path}:1: is no VCF, and as a table it has no column {', '.join(missing)}: {where} "
            f"{', '.join(names)[:60]}; for a table without names give them in order, such as "
            "config.scoring.columns=[chrom,pos,id,ref,alt]"
        )
    column = {n: names.index(n) for n in (*_NEEDED, "id") if n in names}
    return Layout(separator, column, named=not columns)


def records(lines: Iterator[bytes], layout: Layout) -> Iterator[bytes]:
    """VCF records; a row with too few cells passes as it is. Lines with # before the first row are
    no rows."""
    if layout.named:
        next(lines, None)
    lines = dropwhile(lambda line: line.startswith(b"#"), lines)
    at = [layout.column[n] for n in _NEEDED]
    name = layout.column.get("id")
    for line in lines:
        cells = _cells(line.rstrip(b"\r\n"), layout.separator)
        if len(cells) <= max(at) or line.startswith(b"#"):
            yield line
            continue
        chrom, pos, ref, alt = (cells[i] for i in at)
        known = cells[name] if name is not None and name < len(cells) and cells[name] else b"."
        yield b"\t".join((chrom, pos, known, ref, alt, b".", b".", b".")) + b"\n"


def _cells(line: bytes, separator: bytes | None) -> list[bytes]:
    """Without white space around them, and without quotes (RFC 4180), in which a separator is text,
    such as the comma between two alternatives."""
    if b'"' not in line or separator is None:
        cells = [c.strip() for c in line.split(separator)]
        return [c[1:-1] if len(c) > 1 and c[:1] == c[-1:] == b'"' else c for c in cells]
    text = line.decode("utf-8", "surrogateescape")
    found = next(csv.reader([text], delimiter=separator.decode(), skipinitialspace=True), [])
    return [c.strip().encode("utf-8", "surrogateescape") for c in found]
