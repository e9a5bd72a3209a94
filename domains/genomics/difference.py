"""The task `effect` with the difference head: substitutions of a base and all other events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from core.calibration import Calibration
from core.contract import Metric
from core.training.loader import StepLoader
from domains.genomics.effect import EffectTask
from domains.genomics.figures import pooled_metrics
from domains.genomics.finite import require_finite
from domains.genomics.labelled_event import events_of, spelled
from domains.genomics.source import LabelledSource
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from domains.genomics.difference_model import DifferenceModule
    from domains.genomics.difference_scoring import DifferenceScorer
    from domains.genomics.variant_file import VariantFile

_SINGLE = pl.col("alt") >= 0
HEAD = "difference head"


class DifferenceTask(EffectTask):
    """`EffectTask` for `domain.head=difference`."""

    def loader(
        self,
        source: LabelledSource,
        tokenizer: EffectTokenizer,
        rows: pl.Series,
        seed: int,
        steps: int,
    ) -> StepLoader:
        """Batches of windows over labelled substitutions, and of labelled events of every kind,
        these substitutions among them."""
        from domains.genomics.difference_window import TrainingEvents
        from domains.genomics.edited import Editor

        chosen, settings = source.select(rows), self.config.difference
        windows = super().loader(source, tokenizer, chosen.filter(_SINGLE)["row"], seed, steps)
        editor = Editor(source.reference, settings.flank)
        both = TrainingEvents(windows.batch_at, editor, tokenizer, chosen, settings.events, seed)
        return StepLoader(both.batch_at, steps)

    def network(self) -> type[DifferenceModule]:
        from domains.genomics.difference_model import DifferenceModule

        return DifferenceModule

    def module(self, tokenizer: EffectTokenizer, encoder: EncoderConfig) -> DifferenceModule:
        from domains.genomics.difference_model import DifferenceModule
        from domains.genomics.kmer_table import KmerTables

        module = super().module(tokenizer, encoder)
        assert isinstance(module, DifferenceModule)
        if lengths := self.config.difference.kmers:
            module.kmers = KmerTables(lengths)
        return module

    def predict(
        self, module: Any, source: LabelledSource, tokenizer: EffectTokenizer, rows: pl.Series
    ) -> pl.DataFrame:
        """As of `EffectTask`, and difference, that head's number in the same unit. `raw` is it for
        what is no substitution of a single base; ref and alt are the shortest spelling."""
        from domains.genomics.difference_window import differences
        from domains.genomics.edited import Editor

        chosen = source.select(rows)
        single = super().predict(module, source, tokenizer, chosen.filter(_SINGLE)["row"])
        editor = Editor(tokenizer.told(source.reference), self.config.difference.flank)
        events = events_of(source.reference, chosen)
        told = tokenizer.to_label(differences(module, editor, events).mean(0))
        require_finite(told, lambda i: f"{events[i].contig}:{events[i].start + 1}")
        both = chosen.with_columns(difference=pl.Series(told, dtype=pl.Float64))
        others = both.filter(~_SINGLE)
        letters = spelled(source.reference, others)
        frame = others.with_columns(letters, raw=pl.col("difference"))
        frame = frame.with_columns(pl.col("pos") + 1)
        known = source.consequences()
        if known is not None:
            frame = frame.join(known, on="row", how="left", maintain_order="left")
        together = pl.concat([single, frame.select(single.columns)]).sort("row")
        return together.join(
            both.select("row", "difference"), on="row", how="left", maintain_order="left"
        )

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        """Of the substitutions of single bases: a probability is given to them alone."""
        return super().calibrate(validation.filter(_one_base()))

    def metrics(self, source: LabelledSource, predictions: pl.DataFrame) -> list[Metric]:
        """Of substitutions of a base as of `EffectTask`; the same figures of the difference head,
        which the protocol then names, and how far it agrees with the other one; and figures of the
        other events, if any. Of a floor as of `EffectTask`."""
        if "difference" not in predictions.columns:
            return super().metrics(source, predictions)
        single, others = predictions.filter(_one_base()), predictions.filter(~_one_base())
        out = super().metrics(source, single)
        if not out:
            return out
        kind, told = self.config.data.label_kind, (out[0].data, out[0].protocol)
        by_difference = single.with_columns(score=pl.col("difference"))
        by_head = (told[0], f"{told[1]}, {HEAD}")
        out += pooled_metrics(by_difference, kind, *by_head)
        heads = by_difference.with_columns(label=pl.col("raw"))
        agreed = pooled_metrics(heads, "regression", *by_head)
        out += [replace(m, metric=f"{m.metric}_of_heads") for m in agreed]
        if len(others) > 1:
            name = f"{told[1]}, insertions, deletions and longer substitutions"
            out += pooled_metrics(others, kind, told[0], name)
        return out

    def scorer(self, bundle: Bundle, source: VariantFile) -> DifferenceScorer:
        from core.bundle import restore
        from domains.genomics.difference_scoring import DifferenceScorer

        tokenizer, module = restore(bundle, self)
        return DifferenceScorer(
            source, module, tokenizer, bundle.calibration, self.config.window, bundle.version
        )


def _one_base() -> pl.Expr:
    lengths = [pl.col(name).str.len_chars() == 1 for name in ("ref", "alt")]
    return lengths[0] & lengths[1]
