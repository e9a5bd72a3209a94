"""VCF in, VCF out: a score or a reason for every alternative allele."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Partition, Summary
from domains.genomics import vcf
from domains.genomics.allele import SET_ASIDE
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import BASES, UNKNOWN, Genome, encode
from domains.genomics.finite import require_finite
from domains.genomics.scored import check_out, write_scored
from domains.genomics.source import open_reference
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from domains.genomics.model import EffectModule

RECORDS_A_PARTITION = 50_000
SCORED = "SCORED"
REASONS = {
    "UNKNOWN_CONTIG": "CHROM is no contig of the FASTA and no alias of one",
    "OUT_OF_RANGE": "POS lies outside the contig",
    "REF_MISMATCH": "REF differs from the FASTA",
    "NO_ALTERNATE": "ALT is missing",
    "SYMBOLIC": "ALT is symbolic or a breakend",
    "OVERLAPPING_DELETION": "ALT is *",
    "NOT_SNV": "REF or ALT is not one base",
    "N_REFERENCE": "the reference base is N or ambiguous",
    "AMBIGUOUS_ALT": "ALT is not A, C, G or T",
    "ALT_EQUALS_REF": "ALT is the reference base",
    "MALFORMED_RECORD": "fewer than 8 columns or POS is no number; the line is left as it is",
}
_ALLELES = {
    "record": pl.Int64,
    "alternative": pl.Int64,
    "chrom": pl.String,
    "pos": pl.Int64,
    "ref": pl.String,
    "alt": pl.String,
    "reason": pl.String,
}


def judge_record(record: vcf.Record, genome: Genome) -> str | None:
    """Why no allele of the record can be scored, or None."""
    contig = genome.resolve(record.chrom)
    if contig is None:
        return "UNKNOWN_CONTIG"
    sequence = genome.contigs[contig]
    start = record.pos - 1
    if start < 0 or start + len(record.ref) > len(sequence):
        return "OUT_OF_RANGE"
    given, found = encode(record.ref), sequence[start : start + len(record.ref)]
    # N on either side contradicts nothing (VCF 4.3 section 1.6.1.4 maps ambiguity codes).
    if ((given != found) & (given != UNKNOWN) & (found != UNKNOWN)).any():
        return "REF_MISMATCH"
    return None if record.alts else "NO_ALTERNATE"


def judge_allele(ref: str, alt: str, found: int) -> str:
    """SCORED or the reason against it, for an allele of a record that is sound.

    Args:
        found: code of the FASTA's base at POS.
    """
    if alt == "*":
        return "OVERLAPPING_DELETION"
    if any(c in alt for c in "<>[]"):
        return "SYMBOLIC"
    if len(ref) != 1 or len(alt) != 1:
        return "NOT_SNV"
    if found == UNKNOWN or encode(ref)[0] == UNKNOWN:
        return "N_REFERENCE"
    if encode(alt)[0] == UNKNOWN:
        return "AMBIGUOUS_ALT"
    return "ALT_EQUALS_REF" if encode(alt)[0] == found else SCORED


class VariantFile:
    """A VCF to score, on the reference that the config names.

    Raises:
        ConfigError, DataContractError: no such file, BCF, empty, damaged or without a header.
    """

    def __init__(self, config: GenomicsConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.header = vcf.read_header(path)
        self.reference = open_reference(config.data)
        self._read: tuple[int, Iterator[bytes]] | None = None

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the VCF, the reference and the annotation, and the aliases."""
        data = self.config.data
        digest = hashlib.sha256(json.dumps(dict(data.contig_alias), sort_keys=True).encode())
        for path in (self.path, data.fasta, data.annotation):
            if path is None:
                digest.update(b"none")
                continue
            with Path(path).open("rb") as f:
                digest.update(hashlib.file_digest(f, "sha256").digest())
        return digest.hexdigest()

    def partitions(self) -> Sequence[Partition]:
        """Runs of 50,000 records; at least one, so that a VCF without records is written too."""
        records = sum(1 for _ in vcf.body_of(self.path))
        count = max(1, -(-records // RECORDS_A_PARTITION))
        return [Partition(f"records-{i:06d}", i, False) for i in range(count)]

    def lines(self, part: Partition) -> list[bytes]:
        """The records of a partition as they stand in the file."""
        first = part.order * RECORDS_A_PARTITION
        at, lines = self._read or (0, vcf.body_of(self.path))
        if at > first:
            at, lines = 0, vcf.body_of(self.path)
        # Partitions mostly come in order: the reader stays where the last one ended.
        for _ in islice(lines, first - at):
            pass
        taken = list(islice(lines, RECORDS_A_PARTITION))
        self._read = (first + RECORDS_A_PARTITION, lines)
        return taken

    def alleles(self, part: Partition) -> pl.DataFrame:
        """One row an alternative allele (one with alternative -1 where a record has none):
        record (number in the file from 0), alternative, chrom (FASTA name where known), pos
        (0-based), ref, alt, reason."""
        genome = self.reference.genome
        first = part.order * RECORDS_A_PARTITION
        out = []
        for number, line in enumerate(self.lines(part), first):
            record = vcf.parse(line)
            if record is None:
                out.append((number, -1, "", -1, "", "", "MALFORMED_RECORD"))
                continue
            contig = genome.resolve(record.chrom)
            reason = judge_record(record, genome)
            here = (contig or record.chrom, record.pos - 1, record.ref)
            if not record.alts:
                out.append((number, -1, *here, ".", reason))
            for i, alt in enumerate(record.alts):
                if reason is None and contig is not None:
                    found = int(genome.contigs[contig][record.pos - 1])
                    out.append((number, i, *here, alt, judge_allele(record.ref, alt, found)))
                else:
                    out.append((number, i, *here, alt, reason))
        return pl.DataFrame(out, schema=_ALLELES, orient="row")

    def rows(self) -> pl.LazyFrame:
        """Columns row, group, locus, label (null), weight; one row an allele."""
        everything = pl.concat([self.alleles(part) for part in self.partitions()])
        locus = pl.col("chrom") + ":" + (pl.col("pos") + 1).cast(pl.String)
        return (
            everything.with_row_index("row")
            .lazy()
            .select(
                pl.col("row").cast(pl.Int64),
                pl.col("chrom").alias("group"),
                locus.alias("locus"),
                pl.lit(None, pl.Float64).alias("label"),
                pl.lit(1.0).alias("weight"),
            )
        )

    def set_aside(self) -> pl.LazyFrame:
        """Alleles without a score, each once; `row` as in `rows`."""
        everything = pl.concat([self.alleles(part) for part in self.partitions()])
        bad = everything.with_row_index("row").filter(pl.col("reason") != SCORED)
        return (
            bad.lazy()
            .select(
                pl.lit(str(self.path)).alias("file"),
                "row",
                pl.lit("ALT").alias("column"),
                pl.format("{}:{} {}>{}", "chrom", pl.col("pos") + 1, "ref", "alt").alias("found"),
                pl.col("reason").alias("expected"),
            )
            .cast(SET_ASIDE)
        )

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        """What became of these alleles: scored, or the reason why not."""
        everything = pl.concat([self.alleles(part) for part in self.partitions()])
        chosen = everything.with_row_index("row").filter(pl.col("row").is_in(rows.implode()))
        return chosen.select(pl.col("reason").cast(pl.String))


class EffectScorer:
    """Implements `core.contract.Scorer`. Partitions are independent: no state."""

    def __init__(
        self,
        source: VariantFile,
        module: EffectModule,
        tokenizer: EffectTokenizer,
        calibration: Calibration,
        window: int,
        version: str,
    ) -> None:
        self.source, self.module, self.tokenizer = source, module, tokenizer
        self.calibration, self.window, self.version = calibration, window, version
        self.classification = tokenizer.label_kind == "classification"

    def check(self, out: Path) -> None:
        """Raises ConfigError for an output that `write` could not write."""
        check_out(self.source.path, out)

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Columns record, alternative, effect, probability (null without a score, or for
        regression), reason; ordered as in the file.

        Raises:
            LongstrandError: the model gives a score that is not finite.
        """
        from domains.genomics.tile import score_positions

        alleles = self.source.alleles(part)
        effect = np.full(len(alleles), np.nan)
        good = (alleles["reason"] == SCORED).to_numpy()
        chrom = alleles["chrom"].to_numpy()
        pos = alleles["pos"].to_numpy()
        alt = np.array([BASES.find(a.upper()) for a in alleles["alt"]], dtype=np.int64)
        for name in alleles["chrom"].filter(pl.Series(good)).unique(maintain_order=True):
            here = np.flatnonzero(good & (chrom == name))
            sites = np.unique(pos[here])
            found = score_positions(self.module, self.source.reference, name, sites, self.window)
            effect[here] = found[np.searchsorted(sites, pos[here]), alt[here]]
        effect = self.tokenizer.to_label(effect)
        score = self.calibration.apply(effect)
        chosen = np.flatnonzero(good)
        for numbers in (effect[chosen], score[chosen]):
            require_finite(numbers, lambda i: f"{chrom[chosen[i]]}:{pos[chosen[i]] + 1}")
        nothing = pl.lit(None, pl.Float64)
        scored = alleles.select(
            "record",
            "alternative",
            pl.Series("effect", effect if self.classification else score).fill_nan(None),
            (pl.Series(score).fill_nan(None) if self.classification else nothing).alias(
                "probability"
            ),
            "reason",
        )
        return scored, None

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        """Write `out` (bgzip and an index where the name ends in .gz or .bgz) under a temporary
        name, then rename. Records keep their order and every byte outside our INFO tags."""
        return write_scored(self.source, self.header_lines(), scored, out, self.classification)

    def header_lines(self) -> list[str]:
        """What the output's header says of the scores."""
        label = self.source.config.data.label
        reach = self.module.reach()
        unit = (
            f"logit that {label} is positive" if self.classification else f"in the unit of {label}"
        )
        told = "; ".join(f"{code}: {text}" for code, text in REASONS.items())
        lines = [
            "##INFO=<ID=LS_EFFECT,Number=A,Type=Float,Description="
            f'"Predicted effect of the alternative allele, {unit}">',
            '##INFO=<ID=LS_REASON,Number=A,Type=String,Description="SCORED, or why there is no '
            f'score: {told}">',
            "##source=longstrand",
            f"##longstrandModel={self.version}",
            f"##longstrandReferenceMd5={self.source.reference.genome.md5}",
            "##longstrandContext="
            + (f"{reach} bases either side" if reach else f"centred window of {self.window} bases"),
        ]
        if self.classification:
            lines.insert(
                1,
                "##INFO=<ID=LS_PROB,Number=A,Type=Float,Description="
                f'"Calibrated probability that {label} is positive">',
            )
        return lines
