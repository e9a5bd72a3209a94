"""Contigs: reference sequence as small integers, read once.

Coordinates inside are 0-based and half-open. Codes are A 0, C 1, G 2, T 3, anything else N 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import ConfigError
from domains.genomics.contig_name import ContigNames

BASES = "ACGTN"
UNKNOWN = 4
GENBANK = (".gb", ".gbk", ".gbff", ".genbank")
_CODE = np.full(256, UNKNOWN, dtype=np.uint8)
for _i, _base in enumerate("ACGT"):
    _CODE[ord(_base)] = _CODE[ord(_base.lower())] = _i
_CODE[ord("U")] = _CODE[ord("u")] = 3
# IUPAC nucleotide codes (NC-IUB 1984), the only letters a reference may hold.
_IUPAC = frozenset("ACGTUNRYSWKMBDHVacgtunryswkmbdhv")


def encode(sequence: str | bytes) -> np.ndarray:
    """Letters -> uint8 codes, case ignored; ambiguity codes become N."""
    raw = sequence if isinstance(sequence, bytes) else sequence.encode("ascii", "replace")
    return _CODE[np.frombuffer(raw, dtype=np.uint8)]


def complement(codes: np.ndarray) -> np.ndarray:
    """Codes of the other strand, position by position; N stays N."""
    return np.where(codes == UNKNOWN, UNKNOWN, UNKNOWN - 1 - codes)


@dataclass(frozen=True)
class Genome:
    """Reference sequences by name.

    Attributes:
        path: the file read.
        contigs: name -> uint8 [length] codes.
        names: other names of the contigs.
        md5: MD5 of the contigs' own, as hexadecimal text in file order.
        soft: name -> int64 [k, 2] stretches in lower case (repeats), of contigs that have any.
        contig_md5: name -> MD5 of its upper-case letters (SAM's M5).
    """

    path: Path
    contigs: Mapping[str, np.ndarray]
    names: ContigNames
    md5: str
    soft: Mapping[str, np.ndarray] = field(default_factory=dict)
    contig_md5: Mapping[str, str] = field(default_factory=dict)

    def soft_masked(self, contig: str) -> np.ndarray:
        """bool [length], True where the file has lower case."""
        out = np.zeros(len(self.contigs[contig]), dtype=bool)
        for start, end in self.soft.get(contig, ()):
            out[start:end] = True
        return out

    def resolve(self, name: str) -> str | None:
        """The FASTA's name for `name`, or None where no contig is known by it."""
        return self.names.resolve(name)


def read_genome(path: Path, alias: Mapping[str, str] | None = None) -> Genome:
    """Read FASTA (plain or bgzip, via pysam) or GenBank (via Biopython).

    Raises:
        ConfigError: the file is missing, cannot be read at any place (plain gzip), holds no
            sequence, or letters that are no nucleotides.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; data.fasta must name a FASTA or GenBank file")
    letters = _genbank_letters(path) if path.suffix in GENBANK else _fasta_letters(path)
    if not letters or not any(letters.values()):
        raise ConfigError(f"{path}: found no sequence, expected at least one contig")
    contigs, soft, md5 = {}, {}, {}
    for name, sequence in letters.items():
        wrong = set(sequence) - _IUPAC
        if wrong:
            raise ConfigError(
                f"{path}: contig {name} has the letter {sorted(wrong)[0]!r}, expected nucleotide "
                "codes (A C G T N or IUPAC); is it a protein or a damaged file?"
            )
        md5[name] = _md5(sequence.upper())
        contigs[name] = encode(sequence)
        if not sequence.isupper():
            soft[name] = _lower_case(sequence)
    names = ContigNames(contigs, _checked_alias(path, alias or {}, contigs))
    return Genome(path, contigs, names, _md5("".join(md5.values())), soft, md5)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _lower_case(sequence: str) -> np.ndarray:
    """int64 [k, 2]: stretches of lower-case letters."""
    lower = np.frombuffer(sequence.encode(), dtype=np.uint8) >= ord("a")
    edges = np.diff(lower.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def _checked_alias(
    path: Path, alias: Mapping[str, str], contigs: Mapping[str, np.ndarray]
) -> dict[str, str]:
    for other, name in alias.items():
        if name not in contigs:
            known = ", ".join(list(contigs)[:5])
            raise ConfigError(
                f"data.contig_alias: {other} -> {name}, but {path} has no contig {name}; "
                f"it has {known}"
            )
    return dict(alias)


def _fasta_letters(path: Path) -> dict[str, str]:
    with path.open("rb") as f:
        head = f.read(18)
    if head[:2] == b"\x1f\x8b" and head[12:14] != b"BC":
        raise ConfigError(
            f"{path}: compressed with plain gzip, expected bgzip, which can be read at any "
            f"place; run: gunzip {path.name} && bgzip {path.stem}"
        )
    if head[:2] != b"\x1f\x8b" and not head.lstrip().startswith(b">"):
        raise ConfigError(
            f"{path}: begins with {head[:10]!r}, expected '>' and a contig name (FASTA)"
        )
    import pysam

    try:
        # FastxFile reads in one pass and, unlike FastaFile, leaves no index beside the user's file.
        with pysam.FastxFile(str(path)) as records:
            return _by_name(path, [(r.name or "", r.sequence or "") for r in records])
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: pysam cannot read it ({error}); is the file whole? Try: samtools faidx "
            f"{path.name}"
        ) from error


def _by_name(path: Path, records: list[tuple[str, str]]) -> dict[str, str]:
    letters = dict(records)
    if len(letters) < len(records):
        names = [name for name, _ in records]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(
            f"{path}: contig {twice} is there {names.count(twice)} times, expected each name once"
        )
    return letters


def _genbank_letters(path: Path) -> dict[str, str]:
    from Bio import SeqIO

    try:
        records = [(record.id, str(record.seq)) for record in SeqIO.parse(path, "genbank")]
    except Exception as error:  # Biopython raises bare exceptions of many kinds
        raise ConfigError(f"{path}: Biopython cannot read it as GenBank ({error})") from error
    return _by_name(path, records)
