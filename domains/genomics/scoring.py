"""Scores of a file of variants: a number or a reason for every alternative allele."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Partition, Summary
from domains.genomics.consequence import consequences, plain_alleles
from domains.genomics.csq import ConsequenceCaller
from domains.genomics.finite import require_finite
from domains.genomics.scored import check_out, write_scored
from domains.genomics.scored_header import Provenance, header_lines
from domains.genomics.scored_table import write_table
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from domains.genomics.model import EffectEnsemble, EffectModule
    from domains.genomics.variant_file import VariantFile


class EffectScorer:
    """Implements `core.contract.Scorer`. Partitions are independent: no state."""

    def __init__(
        self,
        source: VariantFile,
        module: EffectModule | EffectEnsemble,
        tokenizer: EffectTokenizer,
        calibration: Calibration,
        window: int,
        version: str,
    ) -> None:
        self.source, self.module, self.tokenizer = source, module, tokenizer
        self.calibration, self.window, self.version = calibration, window, version
        self.classification = tokenizer.label_kind == "classification"
        self.spread = module.trainings > 1
        annotated = bool(source.reference.transcripts)
        self.caller = ConsequenceCaller(source.reference) if annotated else None

    def check(self, out: Path) -> None:
        """Raises ConfigError for an output that `write` could not write."""
        check_out(self.source.path, out)

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
        """Columns record, alternative, chrom, pos (1-based), ref, alt (as in the file), effect, sd
        (standard deviation of the effect over trainings, null of a single one), probability (null
        for regression; all three null without a score), reason, warning, consequence and csq
        (null without an annotation, the last two also for alleles that are not plain bases);
        ordered as in the file.

        Raises:
            LongstrandError: the model gives a score that is not finite.
        """
        alleles = self.source.alleles(part)
        effect, spread = self._effects(alleles)
        score = self.calibration.apply(effect)
        judged = alleles.with_row_index("at").filter(pl.col("base") >= 0)
        for numbers in (effect, score, *([spread] if self.spread else [])):
            require_finite(
                numbers[judged["at"].to_numpy()],
                lambda i: f"{judged['contig'][i]}:{judged['pos'][i] + 1}",
            )
        nothing = pl.lit(None, pl.Float64)
        scored = alleles.select(
            "record",
            "alternative",
            "chrom",
            pl.col("pos") + 1,
            "ref",
            "alt",
            pl.Series("effect", effect if self.classification else score).fill_nan(None),
            pl.Series("sd", spread).fill_nan(None),
            (pl.Series(score).fill_nan(None) if self.classification else nothing).alias(
                "probability"
            ),
            "reason",
        )
        return pl.concat([scored, self._consequences(alleles)], how="horizontal"), None

    def _effects(self, alleles: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over members, in the label's unit (for classes the logit);
        NaN without a score."""
        from domains.genomics.tile import scores_and_spread

        effect, spread = (np.full(len(alleles), np.nan) for _ in range(2))
        contig, pos, base = (alleles[c].to_numpy() for c in ("contig", "pos", "base"))
        good = base >= 0
        for name in alleles["contig"].filter(pl.Series(good)).unique(maintain_order=True):
            here = np.flatnonzero(good & (contig == name))
            sites = np.unique(pos[here])
            told = scores_and_spread(self.module, self.source.reference, name, sites, self.window)
            place = np.searchsorted(sites, pos[here])
            effect[here], spread[here] = (found[place, base[here]] for found in told)
        # A spread has no origin: of the change of unit it takes the scale alone.
        return self.tokenizer.to_label(effect), spread * self.tokenizer.scale

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
        .parquet, else VCF (bgzip and an index where it ends in .gz or .bgz). Records keep their
        order and every byte outside our INFO tags."""
        check_out(self.source.path, out)
        if out.suffix == ".parquet":
            return write_table(scored, self.header_lines(), out, self.spread)
        columns = {"LS_EFFECT": "effect"}
        if self.spread:
            columns["LS_SD"] = "sd"
        if self.classification:
            columns["LS_PROB"] = "probability"
        columns["LS_REASON"] = "reason"
        if self.caller is not None:
            columns["LS_CSQ"] = "csq"
        return write_scored(self.source, self.header_lines(), scored, out, columns)

    def header_lines(self) -> list[str]:
        """What the output's header says of the scores."""
        genome = self.source.reference.genome
        provenance = Provenance(
            self.version,
            genome.path.name,
            genome.md5,
            self.module.reach(),
            self.window,
            self.caller is not None,
            self.module.trainings,
        )
        return header_lines(self.source.config, self.tokenizer, provenance)
