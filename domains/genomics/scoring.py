"""Scores of a file of variants: a number or a reason for every alternative allele."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Partition, Summary
from core.errors import ConfigError
from domains.genomics.bigwig import is_bigwig, write_bigwig
from domains.genomics.consequence import consequences, plain_alleles
from domains.genomics.csq import ConsequenceCaller
from domains.genomics.finite import require_finite
from domains.genomics.scored import check_out, write_scored
from domains.genomics.scored_header import Provenance, effect_lines, header_lines
from domains.genomics.scored_table import write_table
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from domains.genomics.model import EffectEnsemble, EffectModule
    from domains.genomics.tile import Network
    from domains.genomics.variant_file import VariantFile

NOT_ANNOTATED = "CONTIG_NOT_ANNOTATED"


class AlleleScorer:
    """Implements `core.contract.Scorer` around the `numbers` of a task. Partitions are independent:
    no state.

    Attributes:
        tags: INFO tag -> name of its number, in the order in which they are written.
        strand: what the header says of strands.
    """

    tags: Mapping[str, str]
    strand = "the sequence is read on its plus strand"

    def __init__(
        self,
        source: VariantFile,
        module: Network,
        window: int,
        version: str,
    ) -> None:
        self.source, self.module = source, module
        self.window, self.version = window, version
        annotated = bool(source.reference.transcripts)
        self.caller = ConsequenceCaller(source.reference) if annotated else None

    def numbers(self, alleles: pl.DataFrame) -> Mapping[str, np.ndarray]:
        """By name, float64 a row of `VariantFile.alleles`: those of `tags`, and perhaps others;
        NaN without a score."""
        raise NotImplementedError

    def reasons(self, alleles: pl.DataFrame, numbers: Mapping[str, np.ndarray]) -> pl.Series:
        """`reason` of each allele, once its numbers are known."""
        return alleles["reason"]

    def header_lines(self) -> list[str]:
        """What the output's header says of the scores."""
        raise NotImplementedError

    def check(self, out: Path) -> None:
        """Raises ConfigError for an output that `write` could not write."""
        check_out(self.source.path, out)
        if is_bigwig(out) and self.source.config.scoring.saturate is None:
            raise ConfigError(
                f"{out}: a bigWig holds one number a base, which every substitution of a region "
                "has (config.scoring.saturate); name the output .vcf.gz or .parquet"
            )

    def prepare(self, work: Path) -> Sequence[Partition]:
        """Contig ranges, which are noted in `work` for who comes next."""
        noted = work / "borders.json"
        if noted.is_file():
            self.source.borders = json.loads(noted.read_text())
        parts = self.source.partitions()
        if not noted.is_file():
            partial = noted.with_name("borders.partial")
            partial.write_text(json.dumps(self.source.borders))
            os.replace(partial, noted)
        return parts

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Columns record, alternative, chrom, pos (1-based), ref, alt (as in the file), the
        numbers (null without a score), reason, warning, consequence and csq (null without an
        annotation, the last two also for alleles that are not plain bases); ordered as in the file.

        Raises:
            LongstrandError: the model gives a score that is not finite.
        """
        alleles = self.source.alleles(part)
        numbers = self.numbers(alleles)
        judged = alleles.with_row_index("at").filter(pl.col("base") >= 0)
        for name in self.required:
            require_finite(
                numbers[name][judged["at"].to_numpy()],
                lambda i: f"{judged['contig'][i]}:{judged['pos'][i] + 1}",
            )
        scored = alleles.select(
            "record",
            "alternative",
            "chrom",
            pl.col("pos") + 1,
            "ref",
            "alt",
            *(pl.Series(name, of).fill_nan(None) for name, of in numbers.items()),
            self.reasons(alleles, numbers),
        )
        return pl.concat([scored, self._consequences(alleles)], how="horizontal"), None

    def at_sites(
        self, alleles: pl.DataFrame, of: Callable[[str, np.ndarray], Sequence[np.ndarray]], n: int
    ) -> list[np.ndarray]:
        """`n` float64 numbers an allele that has a score, NaN for others.

        Args:
            of: contig and sorted sites [m] -> for each number what it is [m, 4] of every base that
                the FASTA's may become.
        """
        out = [np.full(len(alleles), np.nan) for _ in range(n)]
        contig, pos, base = (alleles[c].to_numpy() for c in ("contig", "site", "base"))
        good = base >= 0
        for name in alleles["contig"].filter(pl.Series(good)).unique(maintain_order=True):
            here = np.flatnonzero(good & (contig == name))
            sites = np.unique(pos[here])
            place = np.searchsorted(sites, pos[here])
            for number, found in zip(out, of(name, sites), strict=True):
                number[here] = found[place, base[here]]
        return out

    def _consequences(self, alleles: pl.DataFrame) -> pl.DataFrame:
        """warning, consequence and csq of each allele."""
        if self.caller is None:
            nothing = pl.repeat(None, len(alleles), dtype=pl.String)
            columns = ("warning", "consequence", "csq")
            return alleles.select(nothing.alias(name) for name in columns)
        keyed = alleles.with_row_index("key").with_columns(pl.col("key").cast(pl.Int64))
        called = consequences(self.caller, plain_alleles(self.source.reference, keyed))
        joined = keyed.join(called, on="key", how="left", maintain_order="left")
        return joined.select(self.source.warnings(alleles), "consequence", "csq")

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        """Write `out` under a temporary name, then rename: Parquet where the name ends in
        .parquet, bigWig in .bw, else VCF (bgzip and an index where it ends in .gz or .bgz).
        Records keep their order and every byte outside our INFO tags. The summary also tells how
        many alleles lie on contigs that the annotation does not mention."""
        self.check(out)
        if is_bigwig(out):
            return write_bigwig(scored, self.source.reference.genome, out, self.table[0])
        lacking: Counter[str] = Counter()
        counted = self._counted(scored, lacking)
        if out.suffix == ".parquet":
            summary = write_table(counted, self.header_lines(), out, self.table)
        else:
            columns = {**self.tags, "LS_REASON": "reason"}
            if self.caller is not None:
                columns["LS_CSQ"] = "csq"
            summary = write_scored(self.source, self.header_lines(), counted, out, columns)
        return replace(summary, reasons={**summary.reasons, **lacking})

    def _counted(
        self, scored: Iterator[pl.DataFrame], lacking: Counter[str]
    ) -> Iterator[pl.DataFrame]:
        """`scored`; counts in `lacking` the alleles whose consequence nobody knows."""
        reference = self.source.reference
        for frame in scored:
            if self.caller is not None:
                for chrom, alleles in frame["chrom"].drop_nulls().value_counts().iter_rows():
                    contig = reference.genome.resolve(chrom)
                    if contig is not None and contig not in reference.annotated:
                        lacking[NOT_ANNOTATED] += alleles
            yield frame

    @property
    def required(self) -> Sequence[str]:
        """Names of the numbers that every scored substitution of a single base has."""
        return [*self.tags.values()]

    @property
    def table(self) -> Sequence[str]:
        """Names of the numbers that a table has."""
        return [*self.tags.values()]

    def provenance(self) -> Provenance:
        genome = self.source.reference.genome
        return Provenance(
            self.version,
            genome.path.name,
            genome.md5,
            self.module.reach(),
            self.window,
            self.caller is not None,
            self.strand,
        )


class EffectScorer(AlleleScorer):
    """The effect in the label's unit (for classes the logit), its spread over trainings and, for
    classes, the calibrated probability.

    Attributes:
        told: what the network reads of the source's reference; consequences come from all of it.

    Raises:
        ConfigError: tracks or annotation are missing that training had.
    """

    def __init__(
        self,
        source: VariantFile,
        module: EffectModule | EffectEnsemble,
        tokenizer: EffectTokenizer,
        calibration: Calibration,
        window: int,
        version: str,
    ) -> None:
        super().__init__(source, module, window, version)
        self.tokenizer, self.calibration = tokenizer, calibration
        self.told = tokenizer.told(source.reference)
        if source.config.strand == "both":
            self.strand = "the mean of both strands' readings"
        self.classification = tokenizer.label_kind == "classification"
        self.spread = module.trainings > 1
        self.tags = {"LS_EFFECT": "effect"}
        if self.spread:
            self.tags["LS_SD"] = "sd"
        if self.classification:
            self.tags["LS_PROB"] = "probability"

    @property
    def table(self) -> Sequence[str]:
        """A table has a probability even where nothing is calibrated: null."""
        return ["effect", *(["sd"] if self.spread else []), "probability"]

    def numbers(self, alleles: pl.DataFrame) -> Mapping[str, np.ndarray]:
        effect, spread = self._effects(alleles)
        score = self.calibration.apply(effect)
        return {
            "effect": effect if self.classification else score,
            "sd": spread,
            "probability": score if self.classification else np.full_like(score, np.nan),
        }

    def _effects(self, alleles: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over members, in the label's unit (for classes the logit);
        NaN without a score."""
        from domains.genomics.tile import scores_and_spread
        from domains.genomics.window import stack_of

        stack = stack_of(self.tokenizer)

        def told(contig: str, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return scores_and_spread(self.module, self.told, contig, sites, self.window, stack)

        effect, spread = self.at_sites(alleles, told, 2)
        # A spread has no origin: of the change of unit it takes the scale alone.
        return self.tokenizer.to_label(effect), spread * self.tokenizer.scale

    def header_lines(self) -> list[str]:
        return header_lines(self.source.config, self.score_lines(), self.provenance())

    def score_lines(self) -> list[str]:
        """What the header says of each number."""
        return effect_lines(self.source.config, self.tokenizer, self.module.trainings)
