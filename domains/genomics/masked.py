"""The task `mlm`: learn from a genome alone which base is to be expected where."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.calibration import Calibration
from core.contract import Challenge, Fold, Metric, Panel, Yardstick
from core.errors import ConfigError, TooFewLabelsError
from core.training.loader import StepLoader
from domains.genomics.base_table import FLOORS, BaseTable
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import BASES
from domains.genomics.finite import require_finite
from domains.genomics.genome_source import GenomeSource
from domains.genomics.interval import SEQUENCE, rows_inside
from domains.genomics.masked_figures import contig_metrics, masked_metrics, masked_panels
from domains.genomics.stretch import judged, runs_of

if TYPE_CHECKING:
    from torch import Tensor

    from core.attention import Pattern
    from core.attention.auto import Workload
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from domains.genomics.masked_model import MaskedModule
    from domains.genomics.masked_scoring import MaskedScorer
    from domains.genomics.variant_file import VariantFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseTokenizer:
    """Single-base tokens; nothing is fitted."""

    def to_dict(self) -> dict[str, Any]:
        return {"bases": BASES}

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> BaseTokenizer:
        """Raises ConfigError for another alphabet."""
        if state.get("bases") != BASES:
            raise ConfigError(
                f"tokenizer.json: found bases {state.get('bases')!r}, expected {BASES!r}; was the "
                "bundle made by another version?"
            )
        return BaseTokenizer()


class MaskedTask:
    """Implements `core.contract.Task` for a genome without labels. Rows are stretches of it."""

    name = "mlm"

    def __init__(self, config: GenomicsConfig) -> None:
        self.config = config

    def folds(self, source: GenomeSource) -> Sequence[Fold]:
        """One: what is held out is never learned from, and the bundle's model is that of the
        figures."""
        rows = source.stretches
        train, test = (rows.filter(pl.col("outer") != 0), rows.filter(pl.col("outer") == 0))
        if train.is_empty() or test.is_empty():
            raise TooFewLabelsError(
                f"data.split: found {len(train)} stretches to learn from and {len(test)} to judge "
                f"by in {source.reference.genome.path}, expected both; name contigs with "
                "domain.masked.test, or say domain.data.split.kind=blocks"
            )
        return [Fold("held_out", train["row"], rows["row"].clear(), test["row"])]

    def fit_tokenizer(self, source: GenomeSource, rows: pl.Series) -> BaseTokenizer:
        return BaseTokenizer()

    def load_tokenizer(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> BaseTokenizer:
        return BaseTokenizer.from_dict(state)

    def take_over(
        self, bundle: Bundle, source: GenomeSource, rows: pl.Series
    ) -> tuple[BaseTokenizer, Mapping[str, Tensor]]:
        """The bundle's weights; nothing is fitted."""
        from domains.genomics.taking_over import check_reader

        check_reader(bundle, self.config)
        return BaseTokenizer(), bundle.state_dict()

    def loader(
        self,
        source: GenomeSource,
        tokenizer: BaseTokenizer,
        rows: pl.Series,
        seed: int,
        steps: int,
    ) -> StepLoader:
        """Batches of windows over the stretches of `rows`, neighbours put together."""
        from domains.genomics.masked_window import MaskedWindows

        windows = MaskedWindows(
            source.reference.genome,
            runs_of(source.select(rows)),
            self.config.window,
            self.config.batch_size,
            self.config.masked.soft_mask,
            seed,
        )
        return StepLoader(windows.batch_at, steps)

    def module(self, tokenizer: BaseTokenizer, encoder: EncoderConfig) -> MaskedModule:
        from domains.genomics.masked_model import MaskedModule

        return MaskedModule(encoder, self.config.noise)

    def workload(self, source: GenomeSource, encoder: EncoderConfig) -> Workload:
        return encoder.workload(self.config.window, 2 * self.config.batch_size)

    def objection(self, pattern: Pattern) -> str | None:
        """As of the task effect: scoring needs a bounded reach."""
        if pattern.reach() is not None:
            return None
        return "its reach has no bound, so that scoring would run one window a site, not tiles"

    def predict(
        self,
        module: MaskedModule,
        source: GenomeSource,
        tokenizer: BaseTokenizer,
        rows: pl.Series,
    ) -> pl.DataFrame:
        """Columns of `domains.genomics.stretch.judged`; raw is the bits a base of the stretch.

        Raises:
            LongstrandError: the model gives numbers that are not finite.
        """
        from domains.genomics.masked_window import stack_bases
        from domains.genomics.tile import score_positions

        if module.trained_on is not None:
            module = module.to(module.trained_on)

        def expected(contig: str, positions: np.ndarray) -> np.ndarray:
            window = self.config.window
            return score_positions(module, source.reference, contig, positions, window, stack_bases)

        chosen = source.select(rows)
        found = judged(source.reference.genome, chosen, expected, source.parts(chosen))
        where = found["chrom"], found["pos"]
        require_finite(found["raw"].to_numpy(), lambda i: f"{where[0][i]}:{where[1][i]}")
        return found

    def calibrate(self, validation: pl.DataFrame) -> Calibration:
        return Calibration("identity")

    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        return scored

    def metrics(self, source: GenomeSource, predictions: pl.DataFrame) -> list[Metric]:
        """Bits a base and accuracy over the held-out stretches; bits also of bases that are not
        soft-masked, and of those that lie in no K-mer of what is learned from."""
        return masked_metrics(predictions, _name(source), self._protocol(predictions))

    def parts(self, source: GenomeSource, predictions: pl.DataFrame) -> list[Metric]:
        """Bits a base of each contig."""
        return contig_metrics(predictions, _name(source))

    def _protocol(self, predictions: pl.DataFrame) -> str:
        kind = self.config.data.split.kind
        if self.config.masked.test or kind == "contig":
            names = predictions.sort("row")["chrom"].unique(maintain_order=True).to_list()
            return f"held-out contigs {' '.join(names)}"
        return f"held-out {kind}"

    def floors(
        self, source: GenomeSource, fold: Fold, encoder: EncoderConfig
    ) -> Mapping[str, pl.DataFrame]:
        """What tables of counts reach: the three bases before, and five on either side."""
        genome = source.reference.genome
        runs = runs_of(source.select(fold.learned))
        bases = [genome.contigs[run.contig][run.start : run.end] for run in runs]
        found, test = {}, source.select(fold.test)
        for name, offsets in FLOORS.items():
            table = BaseTable.count(bases, offsets)

            def expected(contig: str, at: np.ndarray, table: BaseTable = table) -> np.ndarray:
                return table.expected(genome.contigs[contig], at)

            told = judged(genome, test, expected, source.parts(test))
            bits = np.average(told["raw"].to_numpy(), weights=told["weight"].to_numpy())
            log.info("floor %s: %.4f bits a base", name, bits)
            found[name] = told
        return found

    def label_intervals(self, source: GenomeSource, fold: Fold) -> list[str]:
        """Which sequence was learned from: `sequence contig:start-end` (0-based, half-open)."""
        runs = runs_of(source.select(fold.learned))
        return [f"{SEQUENCE}{run.contig}:{run.start}-{run.end}" for run in runs]

    def seen_rows(self, source: GenomeSource, intervals: Sequence[str]) -> pl.Series:
        """Stretches of `source` that begin in sequence that was learned from."""
        seen = [text.removeprefix(SEQUENCE) for text in intervals if text.startswith(SEQUENCE)]
        begins = source.stretches.drop("end")
        return rows_inside(begins, seen, source.reference.genome)

    def in_service(self, source: GenomeSource, intervals: Sequence[str]) -> None:
        return None

    def challenge(self, source: GenomeSource, seen: Sequence[str]) -> Challenge:
        raise _no_retraining()

    def yardstick(self, source: GenomeSource, predictions: pl.DataFrame) -> Yardstick:
        raise _no_retraining()

    def scorer(self, bundle: Bundle, source: VariantFile) -> MaskedScorer:
        """Scores a VCF that was opened for `score`."""
        from core.bundle import restore
        from domains.genomics.masked_scoring import MaskedScorer

        _, module = restore(bundle, self)
        return MaskedScorer(source, module, self.config.window, bundle.version)

    def panels(self, source: GenomeSource, predictions: pl.DataFrame) -> list[Panel]:
        return masked_panels(predictions)


def _name(source: GenomeSource) -> str:
    return Path(source.reference.genome.path).name


def _no_retraining() -> ConfigError:
    return ConfigError(
        "domain.task: found mlm, expected effect: a retraining judges by labels, which this task "
        "never reads; train it anew with pipelines.train"
    )
