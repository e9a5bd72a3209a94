"""VCF text, kept byte for byte: header lines put in, INFO tags spliced into records.

A writer that parses and prints records changes them (`QUAL` 100.00 becomes 100) and refuses tags
the header does not declare; scoring must change nothing but its own tags. Columns as in VCF 4.3
section 1.6.1.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError, DataContractError

# The empty BGZF block that ends every whole file (SAM specification, section 4.1.2).
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
FIXED_COLUMNS = 8
OUR_TAGS = ("LS_EFFECT", "LS_PROB", "LS_REASON")
OUR_LINES = (
    *(f"##INFO=<ID={tag},".encode() for tag in OUR_TAGS),
    b"##source=longstrand",
    b"##longstrand",
)


@dataclass(frozen=True)
class Record:
    """The columns that say what is changed; `alts` is empty where ALT is `.`."""

    chrom: str
    pos: int
    ref: str
    alts: tuple[str, ...]


def lines_of(path: Path) -> Iterator[bytes]:
    """Lines with their endings, of plain text, gzip or bgzip.

    Raises:
        DataContractError: a compressed file that is damaged or cut short.
    """
    with path.open("rb") as f:
        compressed = f.read(2) == b"\x1f\x8b"
    if not compressed:
        with path.open("rb") as f:
            yield from f
        return
    _check_whole(path)
    try:
        with gzip.open(path, "rb") as f:
            yield from f
    except (EOFError, OSError) as error:
        raise DataContractError(
            f"{path}: the compressed data is damaged or cut short ({error}); copy the file again"
        ) from error


def _check_whole(path: Path) -> None:
    with path.open("rb") as f:
        blocked = f.read(18)[12:14] == b"BC"
        if not blocked:
            return
        f.seek(max(0, path.stat().st_size - len(BGZF_END)))
        if f.read() != BGZF_END:
            raise DataContractError(
                f"{path}: has no BGZF end block, so it was cut short; copy the file again"
            )


def read_header(path: Path) -> list[bytes]:
    """Header lines with their endings, the #CHROM line last.

    Raises:
        ConfigError: no such file, or BCF.
        DataContractError: empty, a byte order mark, or no VCF header.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; input must name a VCF (.vcf or .vcf.gz)")
    header: list[bytes] = []
    for number, line in enumerate(lines_of(path), 1):
        if number == 1:
            _check_first_line(path, line)
        if not line.startswith(b"#"):
            break
        header.append(line)
        if line.startswith(b"#CHROM"):
            columns = line.rstrip(b"\r\n").split(b"\t")
            if len(columns) < FIXED_COLUMNS:
                raise DataContractError(
                    f"{path}:{number}: the #CHROM line has {len(columns)} tab-separated columns, "
                    f"expected at least {FIXED_COLUMNS}, CHROM to INFO"
                )
            return header
    if not header:
        raise DataContractError(f"{path}: the file is empty, expected a VCF header")
    raise DataContractError(
        f"{path}:{len(header) + 1}: records begin, or the file ends, before a #CHROM line; "
        "expected a whole VCF header"
    )


def _check_first_line(path: Path, line: bytes) -> None:
    if line.startswith(b"\xef\xbb\xbf"):
        raise DataContractError(
            f"{path}:1: begins with a byte order mark, expected ##fileformat=VCF; save the file "
            "as UTF-8 without a byte order mark"
        )
    if line.startswith(b"BCF"):
        raise ConfigError(f"{path}: is BCF; convert it with: bcftools view -Oz {path.name}")
    if not line.startswith(b"##fileformat=VCF"):
        raise DataContractError(
            f"{path}:1: found {line[:30]!r}, expected ##fileformat=VCFv4.x; is it a VCF?"
        )


def body_of(path: Path) -> Iterator[bytes]:
    """The lines after #CHROM."""
    lines = lines_of(path)
    for line in lines:
        if line.startswith(b"#CHROM"):
            break
    yield from lines


def parse(line: bytes) -> Record | None:
    """None where the line has fewer than 8 columns or POS is no whole number."""
    cells = line.split(b"\t", FIXED_COLUMNS)
    if len(cells) < FIXED_COLUMNS or not cells[1].isdigit():
        return None
    alt = cells[4].decode("utf-8", "replace")
    alts = () if alt in (".", "") else tuple(alt.split(","))
    return Record(
        cells[0].decode("utf-8", "replace"),
        int(cells[1]),
        cells[3].decode("utf-8", "replace"),
        alts,
    )


def with_info(line: bytes, tags: bytes) -> bytes:
    """The line with `tags` at the end of INFO, in place of tags of an earlier scoring.

    All other bytes, line ending included, stay.
    """
    content = line.rstrip(b"\r\n")
    ending = line[len(content) :]
    cells = content.split(b"\t", FIXED_COLUMNS)
    info = cells[7]
    if b"LS_" in info:
        ours = tuple(tag.encode() for tag in OUR_TAGS)
        kept = [part for part in info.split(b";") if part.split(b"=", 1)[0] not in ours]
        info = b";".join(kept)
    cells[7] = tags if info in (b"", b".") else info + b";" + tags
    return b"\t".join(cells) + ending


def with_header_lines(header: Sequence[bytes], added: Sequence[str]) -> list[bytes]:
    """The header with `added` before #CHROM, in place of lines of an earlier scoring."""
    kept = [line for line in header[:-1] if not line.startswith(OUR_LINES)]
    last = header[-1]
    ending = last[len(last.rstrip(b"\r\n")) :] or b"\n"
    return [*kept, *(line.encode() + ending for line in added), last]
