"""Variants of any file that scoring takes, as lines of VCF text.

VCF 4.0 to 4.5 plain, gzip or bgzip passes byte for byte; BCF is printed by htslib; a table with
the columns chrom, pos, ref and alt becomes records without INFO. What the file is, its first
bytes say, not its name.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from domains.genomics import variant_table
from domains.genomics.vcf import FIXED_COLUMNS

# The empty BGZF block that ends every whole file (SAM specification, section 4.1.2).
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_VERSION = re.compile(rb"##fileformat=VCFv4\.[0-5]")
_OTHER_PACKING = {
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x1f\x9d": ("compress", "uncompress"),
}


@dataclass(frozen=True)
class VariantText:
    """A file of variants, readable from its start any number of times.

    Attributes:
        header: VCF header lines with their endings, the #CHROM line last.
        body: the record lines with their endings, without blank ones.
    """

    path: Path
    header: tuple[bytes, ...]
    body: Callable[[], Iterator[bytes]]


def open_variants(path: Path, columns: Sequence[str] = ()) -> VariantText:
    """Look at the file and read its header.

    Args:
        columns: names of a table's columns in order, for one whose first line names none.

    Raises:
        ConfigError: no such file, empty, damaged, or nothing that holds variants.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; input must name a VCF, a BCF or a table")
    lines = _reader(path)
    first = next(lines(), b"")
    if not first:
        raise ConfigError(f"{path}: the file is empty, expected a VCF header")
    if first.startswith((b">", b"LOCUS ")):
        raise ConfigError(
            f"{path}: holds sequence, not variants; config.scoring.saturate=all (or =contig, or "
            "=contig:start-end) scores every substitution of it"
        )
    if columns and first.startswith(b"##fileformat"):
        raise ConfigError(
            f"{path}:1: config.scoring.columns names the columns of a table, found a VCF or BCF, "
            "whose columns are known; leave config.scoring.columns out"
        )
    if columns or not first.startswith(b"#"):
        table = variant_table.read_layout(path, first, columns)
        return VariantText(
            path, variant_table.HEADER, lambda: variant_table.records(_not_blank(lines()), table)
        )
    _check_first_line(path, first)
    return VariantText(path, _header(path, lines()), lambda: _not_blank(_after_header(lines())))


def _not_blank(lines: Iterator[bytes]) -> Iterator[bytes]:
    """A blank line is no record, and htslib neither indexes nor reads a file that has one."""
    return filter(bytes.strip, lines)


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    """What gives the lines of VCF text, by the file's first bytes."""
    with path.open("rb") as f:
        head = f.read(18)
    for magic, (name, command) in _OTHER_PACKING.items():
        if head.startswith(magic):
            raise ConfigError(
                f"{path}: is packed with {name}, expected plain text, gzip, bgzip or BCF; run: "
                f"{command} {path.name}"
            )
    if head.startswith(b"BCF"):
        return lambda: _bcf_lines(path)
    if not head.startswith(b"\x1f\x8b"):
        return lambda: _plain_lines(path)
    if head[12:14] == b"BC":
        _check_whole(path)
    if next(_gzip_lines(path), b"").startswith(b"BCF"):
        return lambda: _bcf_lines(path)
    return lambda: _gzip_lines(path)


def _plain_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as f:
        yield from f


def _gzip_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as f:
            yield from f
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigError(
            f"{path}: the compressed data is damaged or cut short ({error}); copy the file again"
        ) from error


def _bcf_lines(path: Path) -> Iterator[bytes]:
    import pysam

    # htslib would say on standard error that there is no index, which nobody needs here.
    said = pysam.set_verbosity(0)  # type: ignore[attr-defined]
    try:
        variants = pysam.VariantFile(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: htslib cannot read it as BCF ({error})") from error
    finally:
        pysam.set_verbosity(said)  # type: ignore[attr-defined]
    try:
        with variants:
            yield from str(variants.header).encode().splitlines(keepends=True)
            for record in variants:
                yield str(record).encode()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: htslib cannot read it as BCF ({error}); copy the file again"
        ) from error


def _check_whole(path: Path) -> None:
    with path.open("rb") as f:
        f.seek(max(0, path.stat().st_size - len(BGZF_END)))
        if f.read() != BGZF_END:
            raise ConfigError(
                f"{path}: has no BGZF end block, so it was cut short; copy the file again"
            )


def _check_first_line(path: Path, line: bytes) -> None:
    if not line.startswith(b"##fileformat=VCF"):
        raise ConfigError(
            f"{path}:1: found {_shown(line)}, expected ##fileformat=VCFv4.x; if it is a table, "
            "give its columns in order, such as config.scoring.columns=[chrom,pos,id,ref,alt]"
        )
    if not _VERSION.match(line):
        raise ConfigError(
            f"{path}:1: found {_shown(line)}, expected version 4.0 to 4.5; convert it with "
            "bcftools view, or correct the line"
        )


def _shown(line: bytes) -> str:
    return repr(line[:30].rstrip().decode("utf-8", "replace"))


def _header(path: Path, lines: Iterator[bytes]) -> tuple[bytes, ...]:
    header: list[bytes] = []
    for number, line in enumerate(lines, 1):
        if not line.startswith(b"#"):
            break
        header.append(line)
        if line.startswith(b"#CHROM"):
            columns = line.rstrip(b"\r\n").split(b"\t")
            if len(columns) < FIXED_COLUMNS:
                raise ConfigError(
                    f"{path}:{number}: the #CHROM line has {len(columns)} tab-separated columns, "
                    f"expected at least {FIXED_COLUMNS}, CHROM to INFO"
                )
            return tuple(header)
    raise ConfigError(
        f"{path}:{len(header) + 1}: records begin, or the file ends, before a #CHROM line; "
        "expected a whole VCF header"
    )


def _after_header(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.startswith(b"#CHROM"):
            break
    yield from lines
