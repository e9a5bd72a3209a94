"""Transcripts from the lines of GFF3 1.26 (Sequence Ontology) and GTF 2.2.

GTF leaves the stop codon out of the CDS; it is taken in. Coordinates become 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from core.errors import DataContractError
from domains.genomics.gene_part import Feature, Owner, Told, assemble
from domains.genomics.text_lines import text_lines
from domains.genomics.transcript import Annotation


def read_gff3(path: Path) -> Annotation:
    """Raises DataContractError for a malformed line or phases that do not add up."""
    found = assemble(path, _lines(path, _gff3_told), _gff3_genes(path))
    contigs, circular = ({unquote(name) for name in names} for names in _contigs(path))
    return Annotation(found, contigs, circular)


def read_gtf(path: Path) -> Annotation:
    """Raises DataContractError for a malformed line or phases that do not add up."""
    found = assemble(path, _lines(path, _gtf_told), _gtf_genes(path))
    return Annotation(found, _contigs(path)[0])


def _attributes(path: Path) -> Iterator[str]:
    """The last column of each feature."""
    for line in text_lines(path, "GFF3 or GTF"):
        if line.startswith("##FASTA"):
            return
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) == 9 and not line.startswith("#"):
            yield cells[8]


def _contigs(path: Path) -> tuple[set[str], set[str]]:
    """Those of all features, of whatever type, and of all ##sequence-region lines; and of these the
    circular ones."""
    found, circular = set[str](), set[str]()
    for line in text_lines(path, "GFF3 or GTF"):
        if line.startswith("##FASTA"):
            break
        if line.startswith("##sequence-region"):
            found.update(line.split()[1:2])
        elif line.strip() and not line.startswith("#"):
            name = line.partition("\t")[0]
            found.add(name)
            if "Is_circular=true" in line:
                circular.add(name)
    return found, circular


def _gff3_genes(path: Path) -> dict[Owner, str]:
    """Transcript (or gene, where the CDS hangs on it) -> name of the gene."""
    parent: dict[str, str] = {}
    name: dict[str, str] = {}
    for attributes in _attributes(path):
        pairs = _gff3_pairs(attributes)
        if "ID" in pairs:
            parent[pairs["ID"]] = pairs.get("Parent", "").split(",")[0]
            name[pairs["ID"]] = pairs.get("Name") or pairs.get("gene") or pairs["ID"]
    return {Owner(one, ""): name.get(above, name[one]) for one, above in parent.items()}


def _gtf_genes(path: Path) -> dict[Owner, str]:
    found: dict[Owner, str] = {}
    for attributes in _attributes(path):
        pairs = _gtf_pairs(attributes)
        name = pairs.get("gene_name") or pairs.get("gene_id", "")
        found.setdefault(_gtf_owner(pairs), name)
    return found


def _lines(path: Path, told_by: Callable[[str], Told]) -> Iterator[Feature]:
    gff3 = told_by is _gff3_told
    for number, line in enumerate(text_lines(path, "GFF3 or GTF"), 1):
        if line.startswith("##FASTA"):
            return
        if line.startswith("#") or not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != 9:
            raise DataContractError(
                f"{path}:{number}: found {len(cells)} tab-separated columns, expected 9"
            )
        if cells[2] not in ("exon", "CDS") and (gff3 or cells[2] != "stop_codon"):
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
            told = told_by(cells[8])
            if not all(owner.name for owner in told.owners):
                raise DataContractError(
                    f"{path}:{number}: found {cells[8][:60]!r}, which does not say what the "
                    f"{cells[2]} belongs to; expected Parent, ID or Name (GFF3), or "
                    "transcript_id or gene_id (GTF)"
                )
            contig = unquote(cells[0]) if gff3 else cells[0]
            yield Feature(cells[2], contig, start, end, strand, cells[7], told)


def _gff3_pairs(attributes: str) -> dict[str, str]:
    pairs = (a.strip().split("=", 1) for a in attributes.split(";") if "=" in a)
    return {key: unquote(value) for key, value in pairs}


def _gff3_told(attributes: str) -> Told:
    pairs = dict(a.strip().split("=", 1) for a in attributes.split(";") if "=" in a)
    named = pairs.get("Parent") or pairs.get("ID") or pairs.get("Name") or ""
    owners = tuple(Owner(unquote(p), "") for p in named.split(","))
    return Told(
        owners, unquote(pairs.get("ID", "")), "trans-splicing" in pairs.get("exception", "")
    )


def _gtf_pairs(attributes: str) -> dict[str, str]:
    pairs = (part.strip().partition(" ") for part in attributes.split(";"))
    return {key: value.strip().strip('"') for key, _, value in pairs if key}


def _gtf_owner(pairs: dict[str, str]) -> Owner:
    gene = pairs.get("gene_id", "")
    return Owner(pairs.get("transcript_id") or gene, gene)


def _gtf_told(attributes: str) -> Told:
    pairs = _gtf_pairs(attributes)
    trans_spliced = "trans-splicing" in pairs.get("exception", "")
    return Told((_gtf_owner(pairs),), pairs.get("protein_id", ""), trans_spliced)
