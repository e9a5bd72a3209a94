"""Variants to score, on a reference: a file of them or every one of a FASTA, read in parts, every
allele judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from core.contract import Partition
from core.errors import ConfigError, DataContractError
from domains.genomics import vcf
from domains.genomics.allele import SET_ASIDE
from domains.genomics.config import GenomicsConfig, ScoringConfig
from domains.genomics.judged_event import Judged, judge_event
from domains.genomics.ranges import cut_ranges
from domains.genomics.same_codon import SAME_CODON, shared_codons
from domains.genomics.saturation import saturated
from domains.genomics.source import open_reference
from domains.genomics.variant_text import VariantText, open_variants
from domains.genomics.verdict import FLIPPED, SCORED, judge, judge_record

RECORDS_A_PARTITION = 50_000
# The assembly is judged by the first records on contigs of the FASTA: of so many and more by a
# share, of fewer only where every one differs.
LOOKED_AT, ENOUGH, FEWEST = 1000, 20, 3
_ALLELES = {
    "record": pl.Int64,
    "alternative": pl.Int64,
    "chrom": pl.String,
    "contig": pl.String,
    "pos": pl.Int64,
    "ref": pl.String,
    "alt": pl.String,
    "reason": pl.String,
    "base": pl.Int64,
    "site": pl.Int64,
    "end": pl.Int64,
    "inserted": pl.String,
}


class VariantFile:
    """Variants to score, on the reference that the config names; with `scoring.saturate` every
    substitution of the FASTA `path`.

    Raises:
        ConfigError: a folder, no such file, empty, damaged, nothing with variants in it,
            or a REF column that is of another assembly than the FASTA.
    """

    def __init__(self, config: GenomicsConfig, path: Path) -> None:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder, expected the FASTA to saturate, one a run")
        self.config, self.path = config, path
        self._read: tuple[int, Iterator[bytes]] | None = None
        self._shared: dict[str, np.ndarray] | None = None
        self.data = config.data
        if config.scoring.saturate is not None:
            self.data = replace(config.data, source="files", fasta=str(path))
        self.reference = open_reference(self.data)
        self.text = self._open(config.scoring)
        self._check_assembly()

    def _open(self, scoring: ScoringConfig) -> VariantText:
        if scoring.saturate is None:
            return open_variants(self.path, scoring.columns)
        self._shared = {}  # every codon is changed at all its places: no news for anybody
        return saturated(self.path, self.reference.genome, scoring.saturate)

    @property
    def header(self) -> Sequence[bytes]:
        """VCF header lines with their endings."""
        return self.text.header

    def body(self) -> Iterator[bytes]:
        """All records as they stand in the file."""
        return self.text.body()

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the VCF, the reference, the annotation and the tracks, and the
        aliases."""
        data = self.data
        digest = hashlib.sha256(json.dumps(dict(data.contig_alias), sort_keys=True).encode())
        tracks = [data.tracks[name].path for name in sorted(data.tracks)]
        for path in (self.path, data.fasta, data.annotation, *tracks):
            if path is None:
                digest.update(b"none")
                continue
            with Path(path).open("rb") as f:
                digest.update(hashlib.file_digest(f, "sha256").digest())
        return digest.hexdigest()

    @cached_property
    def borders(self) -> list[int]:
        """[P + 1] record numbers between which partitions lie: contig ranges."""
        return cut_ranges(self.body(), RECORDS_A_PARTITION)

    def partitions(self) -> Sequence[Partition]:
        """At least one, so that a VCF without records is written too."""
        return [Partition(f"records-{i:06d}", i, False) for i in range(len(self.borders) - 1)]

    def lines(self, part: Partition) -> list[bytes]:
        """The records of a partition as they stand in the file."""
        first, last = self.borders[part.order : part.order + 2]
        at, lines = self._read or (0, self.body())
        if at > first:
            at, lines = 0, self.body()
        # Partitions mostly come in order: the reader stays where the last one ended.
        for _ in islice(lines, first - at):
            pass
        taken = list(islice(lines, last - first))
        self._read = (last, lines)
        return taken

    def alleles(self, part: Partition) -> pl.DataFrame:
        """One row an alternative allele (one with alternative -1 where a record has none):
        record (number in the file from 0), alternative, chrom (as in the file), contig (the
        FASTA's name or null), pos (0-based), ref, alt, reason, base, site, end, inserted (as of
        `judged_event.Judged`; the last two are null but for events).

        Raises:
            DataContractError: REF differs from the FASTA and `scoring.ref_mismatch` is fail.
        """
        genome, policy = self.reference.genome, self.config.scoring.ref_mismatch
        longest = self.config.difference.longest if self.config.head == "difference" else 0
        out = []
        for number, line in enumerate(self.lines(part), self.borders[part.order]):
            record = vcf.parse(line)
            if record is None:
                nowhere = Judged("MALFORMED_RECORD", -1, -1)
                out.append((number, -1, "", None, -1, "", "", *nowhere))
                continue
            contig = genome.resolve(record.chrom)
            sequence = None if contig is None else genome.contigs[contig]
            verdicts = judge(record, sequence, flip=policy == "flip")
            if policy == "fail" and verdicts[0].reason == "REF_MISMATCH":
                raise self._mismatch(number, record)
            here = (record.chrom, contig, record.pos - 1, record.ref)
            if not record.alts:
                out.append((number, -1, *here, ".", *Judged(*verdicts[0])))
            for i, alt in enumerate(record.alts):
                judged = Judged(*verdicts[i])
                if longest and sequence is not None and judged.reason == "NOT_SNV":
                    place = (str(contig), sequence, record.pos - 1, record.ref)
                    judged = judge_event(*place, alt, longest)
                out.append((number, i, *here, alt, *judged))
        return pl.DataFrame(out, schema=_ALLELES, orient="row")

    def warnings(self, alleles: pl.DataFrame) -> pl.Series:
        """SAME_CODON for scored substitutions of a base whose codon another one changes at another
        place, else null."""
        if self._shared is None:
            self._shared = shared_codons(self.reference, self._substitutions())
        out = np.full(len(alleles), None, dtype=object)
        base, contig, pos = (alleles[c].to_numpy() for c in ("base", "contig", "site"))
        for name, shared in self._shared.items():
            here = (contig == name) & (base >= 0)
            out[here & np.isin(pos, shared)] = SAME_CODON
        return pl.Series("warning", out.tolist(), dtype=pl.String)

    def _substitutions(self) -> Iterator[tuple[str, int]]:
        """Contig and place of every substitution of a base that is scored."""
        genome, flip = self.reference.genome, self.config.scoring.ref_mismatch == "flip"
        for line in self.body():
            record = vcf.parse(line)
            contig = None if record is None else genome.resolve(record.chrom)
            if record is not None and contig in self.reference.transcripts:
                for verdict in judge(record, genome.contigs[contig], flip):
                    if verdict.base >= 0:
                        yield contig, verdict.site

    def _mismatch(self, number: int, record: vcf.Record) -> DataContractError:
        return DataContractError(
            f"{self.path}: record {number + 1} ({record.chrom}:{record.pos}), column REF: found "
            f"{record.ref}, expected the bases of {self.reference.genome.path}; leave such records "
            "without a score with config.scoring.ref_mismatch=skip"
        )

    def _check_assembly(self) -> None:
        genome = self.reference.genome
        checked = wrong = 0
        for line in islice(self.body(), LOOKED_AT):
            record = vcf.parse(line)
            contig = genome.resolve(record.chrom) if record is not None else None
            if record is None or contig is None:
                continue
            checked += 1
            reason = judge_record(record, genome.contigs[contig])
            wrong += reason in ("REF_MISMATCH", "OUT_OF_RANGE")
        limit = self.config.scoring.most_mismatches
        least = FEWEST if wrong == checked else ENOUGH
        if checked >= least and wrong > limit * checked:
            raise ConfigError(
                f"{self.path}: wrong assembly? {wrong} of the first {checked} records have a REF "
                f"that is not at that place in {genome.path}, expected at most {limit:.0%}; name "
                "the right FASTA with config.data.fasta=PATH, or raise "
                "config.scoring.most_mismatches"
            )

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
        bad = everything.with_row_index("row").filter(~pl.col("reason").is_in([SCORED, FLIPPED]))
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
