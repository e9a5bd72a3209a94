"""The header's ##contig lines with the MD5 of their sequence (VCF 4.3 section 1.4.7), which is
SAM's M5: `samtools dict` tells the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from domains.genomics.contig import Genome

log = logging.getLogger(__name__)

_LINE = re.compile(rb"##contig=<(.*)>(\s*)", re.DOTALL)
_ID = re.compile(rb"(?:^|,)ID=([^,]+)")
_MD5 = re.compile(rb"(?:^|,)md5=([^,]+)")


def with_md5(header: Sequence[bytes], genome: Genome) -> list[bytes]:
    """The header's lines; one of a contig of `genome` says its MD5. What a line says already stays,
    with a warning where it is of another sequence."""
    return [_told(line, genome) for line in header]


def _told(line: bytes, genome: Genome) -> bytes:
    whole = _LINE.fullmatch(line)
    name = _ID.search(whole[1]) if whole else None
    if whole is None or name is None:
        return line
    given = name[1].decode("utf-8", "replace")
    md5 = genome.contig_md5.get(genome.resolve(given) or "")
    said = _MD5.search(whole[1])
    if md5 is None:
        return line
    if said is None:
        return b"##contig=<" + whole[1] + b",md5=" + md5.encode() + b">" + whole[2]
    if said[1].lower() != md5.encode():
        log.warning(
            "##contig line of %s: found md5=%s, expected %s of %s; another assembly or masking?",
            given,
            said[1].decode("utf-8", "replace"),
            md5,
            genome.path,
        )
    return line
