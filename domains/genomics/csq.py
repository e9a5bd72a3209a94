"""bcftools csq (Danecek & McCarthy 2017, as pysam ships it) on files of our own making.

csq crashes on some files and refuses others, so it gets none of the user's: a sites-only VCF with
one plain allele a record, a GFF3 written from the transcripts that were read (GTF and GenBank
included) and the FASTA's contigs, and it runs in a process of its own. Contigs go by number there:
csq cannot read some names that a FASTA may have (`a,b`), and calls come back by key. `-l` keeps
neighbours in a codon apart; `--force` is never given: it turned coding variants into intronic ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from core.errors import LongstrandError
from domains.genomics.contig import BASES
from domains.genomics.source import Reference
from domains.genomics.transcript import Transcript, merged

_RUN = (
    "import sys; import pysam, pysam.bcftools; pysam.faidx(sys.argv[1]);"
    "pysam.bcftools.csq(*sys.argv[2:], catch_stdout=False)"
)
# More transcripts over one base than this are not kept by csq; its own default is 15.
_MOST = "255"


class ConsequenceCaller:
    """Calls for alleles of a reference; the files of the contigs asked for last are kept."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._folder: TemporaryDirectory[str] | None = None
        self._held: tuple[str, ...] = ()

    def call(self, alleles: pl.DataFrame) -> dict[int, list[str]]:
        """Entries `terms|gene|transcript|biotype|strand|amino acids|bases` of each key; gene and
        transcript are numbers of `Reference.transcripts` in order. A key that touches no
        transcript is not there.

        Args:
            alleles: key (int64), contig, pos (0-based), ref, alt (plain upper-case bases that
                agree with the FASTA).

        Raises:
            LongstrandError: csq fails.
        """
        annotated = [c for c in self.reference.genome.contigs if c in self.reference.transcripts]
        wanted = alleles.filter(pl.col("contig").is_in(annotated))
        if wanted.is_empty():
            return {}
        present = set(wanted["contig"].unique())
        contigs = tuple(c for c in annotated if c in present)
        folder = self._files(contigs)
        _write_sites(self.reference, contigs, wanted, folder / "sites.vcf")
        files = [str(folder / name) for name in ("genome.fa", "genes.gff3", "csq.vcf", "sites.vcf")]
        fasta, genes, out, sites = files
        code = str(self.reference.genetic_code)
        options = ["-l", "-n", _MOST, "-C", code, "-f", fasta, "-g", genes, "-Ov", "-o", out]
        command = [sys.executable, "-c", _RUN, fasta, *options, sites]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            raise LongstrandError(
                f"consequences: bcftools csq failed ({said[:300]}); is data.annotation sound? "
                "Without data.annotation there are no consequences"
            )
        return _read(Path(out))

    def _files(self, contigs: tuple[str, ...]) -> Path:
        if self._folder is None or self._held != contigs:
            self._folder, self._held = TemporaryDirectory(prefix="longstrand-csq-"), contigs
            folder = Path(self._folder.name)
            _write_fasta(self.reference, contigs, folder / "genome.fa")
            _write_genes(self.reference, contigs, folder / "genes.gff3")
        return Path(self._folder.name)


def numbered(reference: Reference) -> list[Transcript]:
    """All transcripts; the place in this list is a transcript's number in the calls."""
    return [t for contig in reference.transcripts.values() for t in contig]


def _write_fasta(reference: Reference, contigs: Sequence[str], path: Path) -> None:
    letters = np.frombuffer(BASES.encode(), dtype=np.uint8)
    with path.open("wb") as f:
        for i, name in enumerate(contigs):
            f.write(f">{i}\n".encode() + letters[reference.sequence(name)].tobytes() + b"\n")


def _write_genes(reference: Reference, contigs: Sequence[str], path: Path) -> None:
    order = {name: i for i, name in enumerate(contigs)}
    with path.open("w", newline="\n") as f:
        f.write("##gff-version 3\n")
        for number, transcript in enumerate(numbered(reference)):
            if transcript.contig in order:
                f.writelines(_gene_lines(order[transcript.contig], number, transcript))


def _gene_lines(contig: int, number: int, t: Transcript) -> list[str]:
    biotype = "protein_coding" if t.cds else "lincRNA"
    whole = (t.exons[0][0], t.exons[-1][1])
    told = f"ID=gene:g{number};Name={number};biotype={biotype}"
    rows = [("gene", whole, ".", told)]
    told = f"ID=transcript:{number};Parent=gene:g{number};biotype={biotype}"
    rows.append(("mRNA" if t.cds else "transcript", whole, ".", told))
    parent = f"Parent=transcript:{number}"
    rows += [("exon", span, ".", parent) for span in t.exons]
    done = 0
    for start, end in t.cds:
        rows.append(("CDS", (start, end), str((t.frame - done) % 3), parent))
        done += end - start
    rows += [(kind, span, ".", parent) for kind, span in _untranslated(t)]
    sign = "+" if t.strand > 0 else "-"
    return [
        f"{contig}\tlongstrand\t{kind}\t{a + 1}\t{b}\t.\t{sign}\t{phase}\t{told}\n"
        for kind, (a, b), phase, told in rows
    ]


def _untranslated(t: Transcript) -> list[tuple[str, tuple[int, int]]]:
    if not t.cds:
        return []
    coding = merged(list(t.cds))
    low, high = coding[0][0], coding[-1][1]
    left = [("left", (a, min(b, low))) for a, b in t.exons if a < low]
    right = [("right", (max(a, high), b)) for a, b in t.exons if b > high]
    five = "left" if t.strand > 0 else "right"
    return [
        ("five_prime_UTR" if side == five else "three_prime_UTR", span)
        for side, span in left + right
    ]


def _write_sites(
    reference: Reference, contigs: Sequence[str], alleles: pl.DataFrame, path: Path
) -> None:
    order = {name: i for i, name in enumerate(contigs)}
    rank = pl.col("contig").replace_strict(order, return_dtype=pl.Int64)
    ordered = alleles.with_columns(rank.alias("contig")).sort("contig", "pos", "key")
    rows = ordered.select("contig", pl.col("pos") + 1, "key", "ref", "alt").iter_rows()
    with path.open("w", newline="\n") as f:
        f.write("##fileformat=VCFv4.3\n")
        for i, name in enumerate(contigs):
            f.write(f"##contig=<ID={i},length={len(reference.sequence(name))}>\n")
        f.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        f.writelines(f"{c}\t{p}\t{k}\t{r}\t{a}\t.\t.\t.\n" for c, p, k, r, a in rows)


def _read(path: Path) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    with path.open() as f:
        for line in f:
            if line.startswith("#"):
                continue
            cells = line.rstrip("\n").split("\t")
            if cells[7].startswith("BCSQ="):
                found[int(cells[2])] = cells[7][len("BCSQ=") :].split(",")
    return found
