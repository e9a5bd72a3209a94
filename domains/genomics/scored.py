"""Writing the scored VCF: the input's lines with our INFO tags, whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import polars as pl

from core.contract import Summary
from core.errors import ConfigError, DataContractError
from domains.genomics import vcf
from domains.genomics.contig_line import with_md5
from domains.genomics.verdict import FLIPPED, SCORED, UNCALIBRATED

if TYPE_CHECKING:
    from domains.genomics.variant_file import VariantFile

NOT_INDEXED = "NOT_INDEXED_UNSORTED"
# What a value of INFO may not hold (VCF 4.3 section 1.2); "%" is coded by whoever made the value.
_CODED = str.maketrans({c: f"%{ord(c):02X}" for c in ";=, \t"})
TBI_LIMIT = 2**29  # bases; beyond it only a CSI index can point (SAM specification, section 5)


def write_scored(
    source: VariantFile,
    header_lines: Sequence[str],
    scored: Iterator[pl.DataFrame],
    out: Path,
    columns: Mapping[str, str],
) -> Summary:
    """Splice the scores into the records of `source`.

    Args:
        scored: frames in the order of partitions, every record present: record, reason, warning
            and the columns of `columns`, a row an alternative.
        columns: INFO tag -> column.

    Returns:
        Alleles in, alleles scored, the others by reason (`NOT_INDEXED_UNSORTED` 1 where unsorted
        records leave the output without an index), and the files written.

    Raises:
        ConfigError: the output is the input, or asks for BCF.
        DataContractError: fewer or more records than scores; the input changed meanwhile.
    """
    compressed = out.suffix in (".gz", ".bgz")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.partial" + (".gz" if compressed else ""))
    try:
        with _create(temporary, compressed) as f:
            header = with_md5(source.header, source.reference.genome)
            f.write(b"".join(vcf.with_header_lines(header, header_lines)))
            order = _Order()
            counts = _splice(source, scored, f, order, columns)
        index = _index(temporary, order) if compressed else None
        files = _move(temporary, index, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return summary_of(counts, files, indexed=not compressed or index is not None)


def summary_of(counts: Counter[str], files: list[str], indexed: bool = True) -> Summary:
    """Alleles in, scored, and the others by reason; those that are scored without a percentile are
    told there too."""
    done = counts[SCORED] + counts[FLIPPED] + counts[UNCALIBRATED]
    reasons = {told: n for told, n in sorted(counts.items()) if told not in (SCORED, FLIPPED)}
    if not indexed:
        reasons[NOT_INDEXED] = 1
    return Summary(counts.total(), done, reasons, files)


def check_out(path: Path, out: Path) -> None:
    """Raises ConfigError for an output that cannot be written beside the input `path`."""
    if out.suffix.lower() == ".bcf":
        raise ConfigError(f"{out}: BCF is not written; name the output .vcf or .vcf.gz")
    if out.is_dir() or (out.exists() and out.resolve() == path.resolve()):
        raise ConfigError(f"{out}: is a folder or the input itself; name another output file")
    above = next((p for p in out.parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise ConfigError(f"{out}: {above} is a file, expected a folder; name another output file")


def _create(path: Path, compressed: bool) -> BinaryIO:
    if not compressed:
        return path.open("wb")
    import pysam

    return pysam.BGZFile(str(path), "wb")  # type: ignore[attr-defined,no-any-return]


class _Order:
    """Whether records are sorted as an index needs: contigs in one piece, POS ascending."""

    def __init__(self) -> None:
        self.sorted, self.last, self.largest = True, 0, 0
        self._contig: bytes | None = None
        self._left: set[bytes] = set()

    def see(self, line: bytes) -> None:
        cells = line.split(b"\t", 2)
        if len(cells) < 3 or not cells[1].isdigit():
            self.sorted = False
            return
        contig, pos = cells[0], int(cells[1])
        if contig != self._contig:
            if self._contig is not None:
                self._left.add(self._contig)
            self.sorted &= contig not in self._left
            self._contig, self.last = contig, 0
        self.sorted &= pos >= self.last
        self.last = pos
        self.largest = max(self.largest, pos)


def _splice(
    source: VariantFile,
    scored: Iterator[pl.DataFrame],
    f: BinaryIO,
    order: _Order,
    columns: Mapping[str, str],
) -> Counter[str]:
    counts: Counter[str] = Counter()
    lines = enumerate(source.body())
    number, line = next(lines, (-1, b""))
    for frame in scored:
        counts.update(dict(frame["reason"].value_counts().iter_rows()))
        grouped = frame.group_by("record", maintain_order=True).agg(
            pl.col("warning").drop_nulls().first(), *dict.fromkeys(["reason", *columns.values()])
        )
        for record in grouped.iter_rows(named=True):
            if record["record"] != number:
                raise DataContractError(
                    f"{source.path}: scores are for record {record['record'] + 1}, the file is at "
                    f"{number + 1}; it changed while it was scored"
                )
            order.see(line)
            if record["reason"][0] == "MALFORMED_RECORD":
                f.write(line)
            else:
                f.write(vcf.with_info(line, _tags(record, columns)))
            number, line = next(lines, (-1, b""))
    if number != -1:
        raise DataContractError(
            f"{source.path}: record {number + 1} has no score; the file changed while it was scored"
        )
    return counts


def _tags(record: dict[str, Any], columns: Mapping[str, str]) -> bytes:
    if record["reason"] == ["NO_ALTERNATE"]:
        return b"LS_REASON=NO_ALTERNATE"
    parts = [f"{tag}={_values(record[column])}" for tag, column in columns.items()]
    if record["warning"] is not None:
        parts.append(f"LS_WARNING={record['warning']}")
    return ";".join(parts).encode()


def _values(values: list[Any]) -> str:
    return ",".join(
        "." if v is None else v.translate(_CODED) if isinstance(v, str) else f"{v:.6g}"
        for v in values
    )


def _index(path: Path, order: _Order) -> Path | None:
    if not order.sorted:
        return None
    import pysam

    csi = order.largest >= TBI_LIMIT
    pysam.tabix_index(str(path), preset="vcf", force=True, csi=csi)
    return path.with_name(path.name + (".csi" if csi else ".tbi"))


def _move(temporary: Path, index: Path | None, out: Path) -> list[str]:
    for suffix in (".tbi", ".csi"):
        # An index of an earlier output would point into the wrong bytes.
        with suppress(FileNotFoundError):
            out.with_name(out.name + suffix).unlink()
    os.replace(temporary, out)
    if index is None:
        return [str(out)]
    final = out.with_name(out.name + index.suffix)
    os.replace(index, final)
    return [str(out), str(final)]
