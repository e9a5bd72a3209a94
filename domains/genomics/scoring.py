"""Scores of a file of variants: a number or a reason for every alternative allele."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Partition, Summary
from domains.genomics.finite import require_finite
from domains.genomics.scored import check_out, write_scored
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.verdict import FLIPPED, FLIPPED_MEANS, REASONS

if TYPE_CHECKING:
    from domains.genomics.model import EffectModule
    from domains.genomics.variant_file import VariantFile


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

    def prepare(self, work: Path) -> Sequence[Partition]:
        """Runs of records; they need nothing in `work`."""
        return self.source.partitions()

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Columns record, alternative, effect, probability (null without a score, or for
        regression), reason; ordered as in the file.

        Raises:
            LongstrandError: the model gives a score that is not finite.
        """
        from domains.genomics.tile import score_positions

        alleles = self.source.alleles(part)
        effect = np.full(len(alleles), np.nan)
        contig, pos, base = (alleles[c].to_numpy() for c in ("contig", "pos", "base"))
        good = base >= 0
        for name in alleles["contig"].filter(pl.Series(good)).unique(maintain_order=True):
            here = np.flatnonzero(good & (contig == name))
            sites = np.unique(pos[here])
            found = score_positions(self.module, self.source.reference, name, sites, self.window)
            effect[here] = found[np.searchsorted(sites, pos[here]), base[here]]
        effect = self.tokenizer.to_label(effect)
        score = self.calibration.apply(effect)
        chosen = np.flatnonzero(good)
        for numbers in (effect[chosen], score[chosen]):
            require_finite(numbers, lambda i: f"{contig[chosen[i]]}:{pos[chosen[i]] + 1}")
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
        reasons = {FLIPPED: FLIPPED_MEANS, **REASONS}
        told = "; ".join(f"{code}: {text}" for code, text in reasons.items())
        lines = [
            "##INFO=<ID=LS_EFFECT,Number=A,Type=Float,Description="
            f'"Predicted effect of the alternative allele, {unit}">',
            '##INFO=<ID=LS_REASON,Number=A,Type=String,Description="SCORED, or why there is no '
            f'score. {told}">',
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
