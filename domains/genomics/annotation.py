"""Gene models from GFF3, GTF and GenBank (the INSDC feature table), on the contigs of a FASTA."""

from __future__ import annotations

import logging
from pathlib import Path

from core.errors import ConfigError, DataContractError
from domains.genomics.contig import GENBANK, Genome
from domains.genomics.genbank import read_genbank
from domains.genomics.gene_lines import read_gff3, read_gtf
from domains.genomics.transcript import Annotation

log = logging.getLogger(__name__)


def read_annotation(path: Path, genome: Genome) -> Annotation:
    """Gene models on the contigs of `genome`, and which of these the file mentions; features of
    other contigs are left out.

    Raises:
        ConfigError: missing file, unknown format, or no feature on any contig of the FASTA.
        DataContractError: a malformed line, a feature past the end of its contig, or a CDS whose
            phases do not follow from its lengths.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; data.annotation must name GFF3, GTF or GenBank")
    suffixes = [s for s in path.suffixes if s not in (".gz", ".bgz")]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in GENBANK:
        found = read_genbank(path)
    elif suffix in (".gff", ".gff3"):
        found = read_gff3(path)
    elif suffix == ".gtf":
        found = read_gtf(path)
    else:
        raise ConfigError(
            f"{path}: cannot tell the format from {path.name!r}; expected a name ending in .gff3, "
            ".gff, .gtf (or .gz of these), .gb, .gbk, .gbff or .genbank"
        )
    return _on_genome(path, found, genome)


def _on_genome(path: Path, found: Annotation, genome: Genome) -> Annotation:
    kept = []
    for transcript in found.transcripts:
        contig = genome.resolve(transcript.contig)
        if contig is None:
            continue
        end = max(b for _, b in transcript.exons)
        if end > len(genome.contigs[contig]):
            if transcript.contig in found.circular:
                log.warning(
                    "%s: transcript %s lies over the origin of the circular contig %s, which is "
                    "not read; it is left out, as if there were no gene",
                    path,
                    transcript.name,
                    contig,
                )
                continue
            raise DataContractError(
                f"{path}: {transcript.name} ends at {end}, but contig {contig} of {genome.path} "
                f"has {len(genome.contigs[contig])} bases; are they the same assembly?"
            )
        transcript.contig = contig
        kept.append(transcript)
    if not kept:
        theirs = ", ".join(sorted({t.contig for t in found.transcripts})[:3]) or "none"
        ours = ", ".join(list(genome.contigs)[:3])
        raise ConfigError(
            f"{path}: no gene lies on a contig of {genome.path} (contigs {theirs} here, {ours} "
            "there); map the names with data.contig_alias"
        )
    resolved = {genome.resolve(name) for name in found.contigs}
    return Annotation(kept, {name for name in resolved if name is not None})
