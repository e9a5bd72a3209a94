"""Scores of a bundle with the difference head: also of insertions, deletions and substitutions of
several bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.calibration import Calibration
from domains.genomics.difference_window import differences
from domains.genomics.edited import Editor
from domains.genomics.finite import require_finite
from domains.genomics.judged_event import judged_events
from domains.genomics.percentile import Percentiles
from domains.genomics.scored_header import percentile_line
from domains.genomics.scoring import EffectScorer
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.verdict import UNCALIBRATED

if TYPE_CHECKING:
    from domains.genomics.difference_model import DifferenceEnsemble, DifferenceModule
    from domains.genomics.variant_file import VariantFile


class DifferenceScorer(EffectScorer):
    """Single-base substitutions have the number of the head of bases; every other event its
    difference, and its percentile among random ones."""

    def __init__(
        self,
        source: VariantFile,
        module: DifferenceModule | DifferenceEnsemble,
        tokenizer: EffectTokenizer,
        calibration: Calibration,
        window: int,
        version: str,
    ) -> None:
        super().__init__(source, module, tokenizer, calibration, window, version)
        settings = source.config.difference
        self._network = module
        self._editor = Editor(self.told, settings.flank)
        self._percentiles = Percentiles(module, self._editor, settings.random, settings.longest)
        self.tags = {**self.tags, "LS_PERCENTILE": "percentile"}

    @property
    def required(self) -> Sequence[str]:
        return [name for name in super().required if name != "percentile"]

    @property
    def table(self) -> Sequence[str]:
        return [*super().table, "percentile"]

    def numbers(self, alleles: pl.DataFrame) -> Mapping[str, np.ndarray]:
        told = {name: of.copy() for name, of in super().numbers(alleles).items()}
        told["percentile"] = np.full(len(alleles), np.nan)
        events = judged_events(self.source.reference, alleles)
        if not events:
            return told
        each = differences(self._network, self._editor, events)
        mean = each.mean(0)
        require_finite(mean, lambda i: f"{events[i].contig}:{events[i].start + 1}")
        at = np.flatnonzero(alleles["inserted"].is_not_null().to_numpy())
        told["effect"][at] = self.tokenizer.to_label(mean)
        if self.spread:
            told["sd"][at] = each.std(0, ddof=1) * self.tokenizer.scale
        pairs = zip(events, mean, strict=True)
        told["percentile"][at] = [self._percentiles.of(e, float(m)) for e, m in pairs]
        return told

    def reasons(self, alleles: pl.DataFrame, numbers: Mapping[str, np.ndarray]) -> pl.Series:
        unknown = pl.Series(np.isnan(numbers["percentile"]))
        event = alleles["inserted"].is_not_null()
        chosen = pl.when(event & unknown).then(pl.lit(UNCALIBRATED)).otherwise(alleles["reason"])
        return pl.select(chosen.alias("reason")).to_series()

    def score_lines(self) -> list[str]:
        return [*super().score_lines(), percentile_line(self.source.config.difference)]
