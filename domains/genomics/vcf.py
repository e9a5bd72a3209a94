"""VCF text, kept byte for byte: header lines put in, INFO tags spliced into records.

A writer that parses and prints records changes them (`QUAL` 100.00 becomes 100) and refuses tags
the header does not declare; scoring must change nothing but its own tags. Columns as in VCF 4.3
section 1.6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIXED_COLUMNS = 8
# Number and Type of every tag that scoring writes; the header's lines are made from this list, and
# what an earlier scoring wrote is recognised by it.
OUR_TAGS = {
    "LS_EFFECT": ("A", "Float"),
    "LS_LLR": ("A", "Float"),
    "LS_SD": ("A", "Float"),
    "LS_PROB": ("A", "Float"),
    "LS_PERCENTILE": ("A", "Float"),
    "LS_REASON": ("A", "String"),
    "LS_CSQ": ("A", "String"),
    "LS_WARNING": (".", "String"),
}
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


def parse(line: bytes) -> Record | None:
    """None where the line has fewer than 8 columns or POS is no whole number below 10^18."""
    cells = line.split(b"\t", FIXED_COLUMNS)
    if len(cells) < FIXED_COLUMNS or not cells[1].isdigit() or len(cells[1]) > 18:
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
    info = info.rstrip(b";")  # a field without a name would stand between it and ours
    cells[7] = tags if info in (b"", b".") else info + b";" + tags
    return b"\t".join(cells) + ending


def with_header_lines(header: Sequence[bytes], added: Sequence[str]) -> list[bytes]:
    """The header with `added` before #CHROM, in place of lines of an earlier scoring."""
    kept = [line for line in header[:-1] if not line.startswith(OUR_LINES)]
    last = header[-1]
    ending = last[len(last.rstrip(b"\r\n")) :] or b"\n"
    return [*kept, *(line.encode() + ending for line in added), last]
