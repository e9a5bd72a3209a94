"""Transcripts from the lines of GFF3 1.26 (Sequence Ontology) and GTF 2.2.

GTF leaves the stop codon out of the CDS; it is taken in. Coordinates become 0-based half-open.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from core.errors import DataContractError
from domains.genomics.transcript import Annotation, Transcript, merged


def read_gff3(path: Path) -> Annotation:
    """Raises DataContractError for a malformed line or phases that do not add up."""
    found = _named(_assemble(path, _lines(path, _gff3_parents), True), _gff3_genes(path))
    return Annotation(found, _contigs(path))


def read_gtf(path: Path) -> Annotation:
    """Raises DataContractError for a malformed line or phases that do not add up."""
    found = _named(_assemble(path, _lines(path, _gtf_parents), False), _gtf_genes(path))
    return Annotation(found, _contigs(path))


def _named(transcripts: list[Transcript], genes: dict[str, str]) -> list[Transcript]:
    for transcript in transcripts:
        transcript.gene = genes.get(transcript.name, "")
    return transcripts


@dataclass(frozen=True)
class _Feature:
    kind: str
    contig: str
    start: int
    end: int
    strand: int
    phase: str
    parents: tuple[str, ...]


def _text(path: Path) -> Iterator[str]:
    """Lines of a plain or compressed text file.

    Raises:
        DataContractError: not UTF-8 text, or compressed data that is none or damaged.
    """
    packed = path.suffix in (".gz", ".bgz")
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as f:
            yield from f
    except UnicodeDecodeError as error:
        raise DataContractError(
            f"{path}: is no UTF-8 text ({error.reason}), expected GFF3 or GTF; where it is "
            "compressed its name must end in .gz"
        ) from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataContractError(
            f"{path}: cannot be read ({error}); a name ending in {path.suffix} asks for "
            + ("whole gzip data" if packed else "plain text")
        ) from error


def _attributes(path: Path) -> Iterator[str]:
    """The last column of each feature."""
    for line in _text(path):
        if line.startswith("##FASTA"):
            return
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) == 9 and not line.startswith("#"):
            yield cells[8]


def _contigs(path: Path) -> set[str]:
    """Those of all features, of whatever type, and of all ##sequence-region lines."""
    found = set()
    for line in _text(path):
        if line.startswith("##FASTA"):
            break
        if line.startswith("##sequence-region"):
            found.update(line.split()[1:2])
        elif line.strip() and not line.startswith("#"):
            found.add(line.partition("\t")[0])
    return found


def _gff3_genes(path: Path) -> dict[str, str]:
    """Transcript (or gene, where the CDS hangs on it) -> name of the gene."""
    parent: dict[str, str] = {}
    name: dict[str, str] = {}
    for attributes in _attributes(path):
        pairs = _gff3_pairs(attributes)
        if "ID" in pairs:
            parent[pairs["ID"]] = pairs.get("Parent", "").split(",")[0]
            name[pairs["ID"]] = pairs.get("Name") or pairs.get("gene") or pairs["ID"]
    return {one: name.get(above, name[one]) for one, above in parent.items()}


def _gtf_genes(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for attributes in _attributes(path):
        pairs = _gtf_pairs(attributes)
        if "transcript_id" in pairs and pairs["transcript_id"] not in found:
            found[pairs["transcript_id"]] = pairs.get("gene_name") or pairs.get("gene_id", "")
    return found


def _lines(path: Path, parents_of: Callable[[str], tuple[str, ...]]) -> Iterator[_Feature]:
    for number, line in enumerate(_text(path), 1):
        if line.startswith("##FASTA"):
            return
        if line.startswith("#") or not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != 9:
            raise DataContractError(
                f"{path}:{number}: found {len(cells)} tab-separated columns, expected 9"
            )
        if cells[2] not in ("exon", "CDS", "stop_codon"):
            continue
        try:
            start, end = int(cells[3]) - 1, int(cells[4])
        except ValueError as error:
            raise DataContractError(
                f"{path}:{number}: start and end are {cells[3]!r} and {cells[4]!r}, expected "
                "whole numbers"
            ) from error
        if start < 0 or end <= start:
            raise DataContractError(
                f"{path}:{number}: start {cells[3]} and end {cells[4]}, expected 1 <= start <= end"
            )
        if cells[6] in "+-":
            strand = 1 if cells[6] == "+" else -1
            parents = parents_of(cells[8])
            yield _Feature(cells[2], cells[0], start, end, strand, cells[7], parents)


def _gff3_pairs(attributes: str) -> dict[str, str]:
    pairs = (a.strip().split("=", 1) for a in attributes.split(";") if "=" in a)
    return {key: unquote(value) for key, value in pairs}


def _gff3_parents(attributes: str) -> tuple[str, ...]:
    pairs = dict(a.strip().split("=", 1) for a in attributes.split(";") if "=" in a)
    named = pairs.get("Parent") or pairs.get("ID") or pairs.get("Name") or ""
    return tuple(unquote(p) for p in named.split(","))


def _gtf_pairs(attributes: str) -> dict[str, str]:
    pairs = (part.strip().partition(" ") for part in attributes.split(";"))
    return {key: value.strip().strip('"') for key, _, value in pairs if key}


def _gtf_parents(attributes: str) -> tuple[str, ...]:
    return (_gtf_pairs(attributes).get("transcript_id", ""),)


def _assemble(path: Path, features: Iterator[_Feature], stop_in_cds: bool) -> list[Transcript]:
    parts: dict[tuple[str, str, int], dict[str, list[_Feature]]] = {}
    for feature in features:
        for parent in feature.parents:
            key = (parent, feature.contig, feature.strand)
            parts.setdefault(key, {}).setdefault(feature.kind, []).append(feature)
    found = []
    for (name, contig, strand), kinds in parts.items():
        cds = sorted(kinds.get("CDS", []), key=lambda f: f.start)
        spans = [(f.start, f.end) for f in cds]
        if cds and not stop_in_cds:
            stops = [(f.start, f.end) for f in kinds.get("stop_codon", [])]
            spans = merged(spans + stops)
        exons = sorted((f.start, f.end) for f in kinds.get("exon", [])) or merged(spans)
        if not exons:
            continue
        first = cds[0 if strand > 0 else -1].phase if cds else "."
        frame = int(first) if first in ("0", "1", "2") else 0
        _check_phases(path, name, cds[::strand], frame)
        found.append(Transcript(name, contig, strand, exons, spans[::strand], frame))
    return found


def _check_phases(path: Path, name: str, cds: list[_Feature], frame: int) -> None:
    """`cds` in the order of translation; a phase of `.` says nothing and is let pass."""
    done = 0
    for part in cds:
        expected = str((frame - done) % 3)
        if part.phase not in (expected, "."):
            raise DataContractError(
                f"{path}: transcript {name}, CDS {part.start + 1}-{part.end}: found phase "
                f"{part.phase}, expected {expected} after the {done} coding bases before it; "
                "correct the phases, or leave the transcript out"
            )
        done += part.end - part.start
