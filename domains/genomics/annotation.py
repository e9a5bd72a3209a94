"""Gene models from GFF3, GTF and GenBank.

Sources: GFF3 1.26 (Sequence Ontology), GTF 2.2 (the CDS leaves the stop codon out), the INSDC
feature table. Coordinates become 0-based half-open on reading.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from core.errors import ConfigError, DataContractError
from domains.genomics.contig import GENBANK, Genome

Span = tuple[int, int]
# A gap this short between coding parts is ribosomal slippage, not an intron.
SHORTEST_INTRON = 10


@dataclass
class Transcript:
    """One gene model.

    Attributes:
        contig: name in the FASTA.
        strand: +1 or -1.
        exons: ascending spans.
        cds: coding spans in the order of translation; they may overlap (ribosomal slippage).
        frame: bases to skip at the start of the CDS until the first whole codon.
    """

    name: str
    contig: str
    strand: int
    exons: list[Span] = field(default_factory=list)
    cds: list[Span] = field(default_factory=list)
    frame: int = 0

    def coding_positions(self) -> np.ndarray:
        """int64 [n] contig positions in the order of translation, from the first whole codon."""
        parts = [np.arange(a, b)[:: self.strand] for a, b in self.cds]
        return np.concatenate(parts)[self.frame :] if parts else np.empty(0, dtype=np.int64)

    def introns(self) -> list[Span]:
        """Ascending gaps between exons."""
        gaps = zip(self.exons[:-1], self.exons[1:], strict=True)
        return [(a[1], b[0]) for a, b in gaps if b[0] - a[1] >= SHORTEST_INTRON]


def read_annotation(path: Path, genome: Genome) -> list[Transcript]:
    """Gene models on the contigs of `genome`; features of other contigs are left out.

    Raises:
        ConfigError: missing file, unknown format, or no feature on any contig of the FASTA.
        DataContractError: a malformed line or a feature past the end of its contig.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; data.annotation must name GFF3, GTF or GenBank")
    suffixes = [s for s in path.suffixes if s not in (".gz", ".bgz")]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in GENBANK:
        found = _read_genbank(path)
    elif suffix in (".gff", ".gff3"):
        found = _assemble(path, _lines(path, _gff3_parents), stop_in_cds=True)
    elif suffix == ".gtf":
        found = _assemble(path, _lines(path, _gtf_parents), stop_in_cds=False)
    else:
        raise ConfigError(
            f"{path}: cannot tell the format from {path.name!r}; expected a name ending in .gff3, "
            ".gff, .gtf (or .gz of these), .gb, .gbk, .gbff or .genbank"
        )
    return _on_genome(path, found, genome)


def _on_genome(path: Path, found: list[Transcript], genome: Genome) -> list[Transcript]:
    kept = []
    for transcript in found:
        contig = genome.resolve(transcript.contig)
        if contig is None:
            continue
        end = max(b for _, b in transcript.exons)
        if end > len(genome.contigs[contig]):
            raise DataContractError(
                f"{path}: {transcript.name} ends at {end}, but contig {contig} of {genome.path} "
                f"has {len(genome.contigs[contig])} bases; are they the same assembly?"
            )
        transcript.contig = contig
        kept.append(transcript)
    if not kept:
        theirs = ", ".join(sorted({t.contig for t in found})[:3]) or "none"
        ours = ", ".join(list(genome.contigs)[:3])
        raise ConfigError(
            f"{path}: no gene lies on a contig of {genome.path} (contigs {theirs} here, {ours} "
            "there); map the names with data.contig_alias"
        )
    return kept


@dataclass(frozen=True)
class _Feature:
    kind: str
    contig: str
    start: int
    end: int
    strand: int
    phase: str
    parents: tuple[str, ...]


def _lines(path: Path, parents_of: Callable[[str], tuple[str, ...]]) -> Iterator[_Feature]:
    packed = path.suffix in (".gz", ".bgz")
    with gzip.open(path, "rt") if packed else path.open() as f:
        for number, line in enumerate(f, 1):
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
                    f"{path}:{number}: start {cells[3]} and end {cells[4]}, expected "
                    "1 <= start <= end"
                )
            if cells[6] in "+-":
                strand = 1 if cells[6] == "+" else -1
                parents = parents_of(cells[8])
                yield _Feature(cells[2], cells[0], start, end, strand, cells[7], parents)


def _gff3_parents(attributes: str) -> tuple[str, ...]:
    pairs = dict(a.strip().split("=", 1) for a in attributes.split(";") if "=" in a)
    named = pairs.get("Parent") or pairs.get("ID") or pairs.get("Name") or ""
    return tuple(unquote(p) for p in named.split(","))


def _gtf_parents(attributes: str) -> tuple[str, ...]:
    for part in attributes.split(";"):
        key, _, value = part.strip().partition(" ")
        if key == "transcript_id":
            return (value.strip().strip('"'),)
    return ("",)


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
            spans = _merged(spans + stops)
        exons = sorted((f.start, f.end) for f in kinds.get("exon", [])) or _merged(spans)
        if not exons:
            continue
        first = cds[0 if strand > 0 else -1].phase if cds else "."
        frame = int(first) if first in ("0", "1", "2") else 0
        found.append(Transcript(name, contig, strand, exons, spans[::strand], frame))
    return found


def _merged(spans: list[Span]) -> list[Span]:
    """Ascending union; touching spans are joined."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _read_genbank(path: Path) -> list[Transcript]:
    from Bio import SeqIO

    found: list[Transcript] = []
    try:
        records = list(SeqIO.parse(path, "genbank"))
    except Exception as error:  # Biopython raises bare exceptions of many kinds
        raise DataContractError(f"{path}: Biopython cannot read it as GenBank ({error})") from error
    for record in records:
        messenger = {}
        for f in record.features:
            if f.type == "mRNA":
                messenger[f.qualifiers.get("gene", [""])[0]] = f
        for number, f in enumerate(x for x in record.features if x.type == "CDS"):
            gene = f.qualifiers.get("gene", [f"CDS{number + 1}"])[0]
            # Biopython lists the parts of complement(join()) in the order of translation.
            cds = [(int(p.start), int(p.end)) for p in f.location.parts]
            spans = cds
            if gene in messenger:
                spans = [(int(p.start), int(p.end)) for p in messenger[gene].location.parts]
            frame = int(f.qualifiers.get("codon_start", ["1"])[0]) - 1
            strand = -1 if f.location.strand == -1 else 1
            found.append(Transcript(gene, record.id, strand, _merged(spans), cds, frame))
    return found
