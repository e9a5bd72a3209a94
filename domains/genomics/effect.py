"""The task `effect`: learn what single-base substitutions do, from labelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.calibration import Calibration, fit_platt
from core.contract import Challenge, Fold, Metric, Panel, Yardstick
from core.errors import ConfigError, TooFewLabelsError
from core.training.loader import StepLoader
from domains.genomics.config import GenomicsConfig
from domains.genomics.effect_figures import effect_metrics, shared_metrics
from domains.genomics.fact_scale import FactScale
from domains.genomics.figures import report_panels
from domains.genomics.finite import require_finite
from domains.genomics.floor import UNTRAINED, damaging_direction, floors_of, frame_of, untrained
from domains.genomics.interval import SEQUENCE, rows_inside, write_intervals
from domains.genomics.label_class import check_classes, check_positive
from domains.genomics.purge import Purge
from domains.genomics.retraining import challenge, effect_yardstick
from domains.genomics.shared_sequence import refuse_shared_positions
from domains.genomics.source import LabelledSource
from domains.genomics.split import fold_name, make_folds
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from core.attention import Pattern
    from core.attention.auto import Workload
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from domains.genomics.fact_head import FactHead
    from domains.genomics.model import EffectEnsemble, EffectModule
    from domains.genomics.scoring import EffectScorer
    from domains.genomics.variant_file import VariantFile


class EffectTask:
    """Implements `core.contract.Task` for labelled single-base substitutions."""

    name = "effect"

    def __init__(self, config: GenomicsConfig) -> None:
        self.config = config
        self._made: tuple[LabelledSource, list[Fold]] | None = None

    def folds(self, source: LabelledSource) -> Sequence[Fold]:
        """Outer folds by group, purged, and last the refit `all`."""
        self._check_labels(source)
        folds = make_folds(source.variants, self.config.data.split, self._purge(source))
        for fold in folds:
            self._check_classes(source, fold)
            refuse_shared_positions(source, fold)
        self._made = source, folds
        return folds

    def _check_labels(self, source: LabelledSource) -> None:
        if self.config.data.label_kind == "classification":
            check_positive(source.given, self.config.data.positive)

    def _check_classes(self, source: LabelledSource, fold: Fold) -> None:
        if self.config.data.label_kind == "classification":
            check_classes(source.variants, fold)

    def _purge(self, source: LabelledSource) -> Purge:
        distance = self.config.data.split.purge
        return Purge.of(source.variants, source.reference.transcripts, distance)

    def fit_tokenizer(self, source: LabelledSource, rows: pl.Series) -> EffectTokenizer:
        chosen = source.select(rows)
        damaging = damaging_direction(source, chosen)
        reference = source.reference
        facts = FactScale.fit(reference, chosen) if self.config.facts.hidden else None
        told = (damaging, reference.channel_names, facts, bool(reference.transcripts))
        return EffectTokenizer.fit(chosen, self.config.data.label_kind, *told)

    def load_tokenizer(
        self, state: Mapping[str, Any], config: Mapping[str, Any]
    ) -> EffectTokenizer:
        return EffectTokenizer.from_dict(state, config)

    def loader(
        self,
        source: LabelledSource,
        tokenizer: EffectTokenizer,
        rows: pl.Series,
        seed: int,
        steps: int,
    ) -> StepLoader:
        """Batches of windows over the labelled positions of `rows`."""
        from domains.genomics.window import TrainingWindows

        chosen = source.select(rows)
        if chosen.is_empty():
            raise TooFewLabelsError(
                "no labelled allele to train on, or to compare by: attention=auto needs "
                "data.split.validation above 0"
            )
        windows = TrainingWindows(
            source.reference,
            tokenizer,
            chosen,
            self.config.window,
            self.config.batch_size,
            seed,
        )
        return StepLoader(windows.batch_at, steps)

    def module(self, tokenizer: EffectTokenizer, encoder: EncoderConfig) -> EffectModule:
        module = self.network()(
            encoder,
            channels=len(tokenizer.channels),
            classification=tokenizer.label_kind == "classification",
            noise=self.config.noise,
            codons=self.config.codons,
            genetic_code=self.config.data.genetic_code,
            facts=self._fact_head(tokenizer),
            length_waves=self.config.length_waves,
        )
        module.both_strands = self.config.strand == "both"
        return module

    def network(self) -> type[EffectModule]:
        """What `module` makes one of."""
        from domains.genomics.model import EffectModule
        from domains.genomics.strand_model import StrandEffectModule

        return StrandEffectModule if self.config.reader == "strands" else EffectModule

    def take_over(
        self, bundle: Bundle, source: LabelledSource, rows: pl.Series
    ) -> tuple[EffectTokenizer, Mapping[str, Tensor]]:
        """A tokenizer of these rows and this source, and the bundle's weights, those of its tracks
        by their names."""
        from domains.genomics.taking_over import check_reader, with_channels

        check_reader(bundle, self.config)
        tokenizer, weights = self.fit_tokenizer(source, rows), bundle.state_dict()
        if bundle.task != self.name:
            return tokenizer, weights
        theirs = self.load_tokenizer(bundle.tokenizer, bundle.config).channels
        return tokenizer, with_channels(weights, theirs, tokenizer.channels)

    def _fact_head(self, tokenizer: EffectTokenizer) -> FactHead | None:
        """Raises ConfigError where the tokenizer, of a bundle, has facts and the config has none,
        or the other way round."""
        from domains.genomics.fact_head import FactHead

        wanted, known = self.config.facts, tokenizer.facts
        if (known is not None) != (wanted.hidden > 0):
            raise ConfigError(
                f"domain.facts.hidden: found {wanted.hidden} with a bundle that was trained "
                f"{'without' if known is None else 'with'} facts; give it the bundle's own value"
            )
        return None if known is None else FactHead(known, wanted)

    def workload(self, source: LabelledSource, encoder: EncoderConfig) -> Workload:
        return encoder.workload(self.config.window, self.config.batch_size)

    def objection(self, pattern: Pattern) -> str | None:
        """A reach without bound leaves no tiles to score: every site needs its own window."""
        if pattern.reach() is not None:
            return None
        return "its reach has no bound, so that scoring would run one window a site, not tiles"

    def predict(
        self,
        module: EffectModule | EffectEnsemble,
        source: LabelledSource,
        tokenizer: EffectTokenizer,
        rows: pl.Series,
    ) -> pl.DataFrame:
        """Columns row, label, raw (label unit, or logit), chrom, pos (1-based), ref, alt, group,
        weight and, where there is an annotation, consequence; ordered by row.

        Raises:
            ConfigError: tracks or annotation are missing that training had.
            LongstrandError: the model gives numbers that are not finite.
        """
        from domains.genomics.tile import score_positions
        from domains.genomics.window import stack_of

        reference, chosen = tokenizer.told(source.reference), source.select(rows)
        chrom, pos, alt = (chosen[c].to_numpy() for c in ("chrom", "pos", "alt"))
        raw, stack = np.empty(len(chosen)), stack_of(tokenizer)
        for name in chosen["chrom"].unique(maintain_order=True):
            here = np.flatnonzero(chrom == name)
            sites = np.unique(pos[here])
            told = (module, reference, name, sites, self.config.window, stack)
            scores = score_positions(*told)
            raw[here] = scores[np.searchsorted(sites, pos[here]), alt[here]]
        raw = tokenizer.to_label(raw)
        require_finite(raw, lambda i: f"{chrom[i]}:{pos[i] + 1}")
        letters = dict(enumerate("ACGT"))
        predictions = chosen.select(
            "row",
            "label",
            pl.Series("raw", raw, dtype=pl.Float64),
            "chrom",
            pl.col("pos") + 1,
            pl.col("ref").replace_strict(letters, return_dtype=pl.String),
            pl.col("alt").replace_strict(letters, return_dtype=pl.String),
            "group",
            "weight",
        )
        known = source.consequences()
        if known is None:
            return predictions
        return predictions.join(known, on="row", how="left", maintain_order="left")

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        """Identity for regression, Platt scaling of the logit for classification."""
        if self.config.data.label_kind == "regression":
            return Calibration("identity")
        return fit_platt(validation["raw"].to_numpy(), validation["label"].to_numpy())

    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        """Of classification the column probability: the calibrated score, as LS_PROB has it."""
        if self.config.data.label_kind == "regression":
            return scored
        return scored.with_columns(probability=pl.col("score"))

    def metrics(self, source: LabelledSource, predictions: pl.DataFrame) -> list[Metric]:
        return effect_metrics(self.config.data, predictions)

    def parts(self, source: LabelledSource, predictions: pl.DataFrame) -> list[Metric]:
        """Of a training's own predictions what `shared_metrics` has of them."""
        outer = [fold_name(i) for i in range(self.config.data.split.folds)]
        if "chrom" not in predictions.columns or not predictions["fold"].is_in(outer).all():
            return []
        made = self._made
        folds = made[1] if made is not None and made[0] is source else self.folds(source)
        return shared_metrics(self.config.data, source, folds, predictions)

    def floors(
        self, source: LabelledSource, fold: Fold, encoder: EncoderConfig
    ) -> Mapping[str, pl.DataFrame]:
        """`position_knn`, `kmer`, `untrained` and, with an annotation, `consequence_rank` on the
        test rows."""
        tokenizer, module = untrained(self, source, fold.train, encoder)
        told = self.predict(module, source, tokenizer, fold.test)["raw"]
        return {**floors_of(source, fold), UNTRAINED: frame_of(source, fold, told.to_numpy())}

    def label_intervals(self, source: LabelledSource, fold: Fold) -> list[str]:
        """`contig:start-end` (0-based, half-open) of the labels that training and calibration
        saw; gaps up to the purge distance are bridged."""
        seen = source.select(pl.concat([fold.learned, fold.validation]))
        return write_intervals(seen, max(1, self.config.data.split.purge))

    def seen_rows(self, source: LabelledSource, intervals: Sequence[str]) -> pl.Series:
        """Rows of `source`, whichever file it reads, that lie in such intervals; sequence that was
        learned from without labels tells nothing of them."""
        labels = [text for text in intervals if not text.startswith(SEQUENCE)]
        return rows_inside(source.variants, labels, source.reference.genome)

    def in_service(self, source: LabelledSource, intervals: Sequence[str]) -> None:
        return None

    def challenge(self, source: LabelledSource, seen: Sequence[str]) -> Challenge:
        self._check_labels(source)
        inside, split = self.seen_rows(source, seen), self.config.data.split
        found = challenge(source.variants, inside, split, self._purge(source))
        self._check_classes(source, found.fold)
        return found

    def yardstick(self, source: LabelledSource, predictions: pl.DataFrame) -> Yardstick:
        return effect_yardstick(predictions, self.config.data.label_kind)

    def scorer(self, bundle: Bundle, source: VariantFile) -> EffectScorer:
        """Scores a VCF that was opened for `score`."""
        from core.bundle import restore
        from domains.genomics.scoring import EffectScorer

        tokenizer, module = restore(bundle, self)
        return EffectScorer(
            source,
            module,
            tokenizer,
            bundle.calibration,
            self.config.window,
            bundle.version,
        )

    def panels(self, source: LabelledSource, predictions: pl.DataFrame) -> list[Panel]:
        return report_panels(predictions, self.config.data.label_kind)
