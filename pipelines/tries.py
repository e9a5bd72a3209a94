"""Short trainings: how well, and how fast, an encoder learns a fold's training part.

Each is judged by its loss on the fold's validation rows; test rows are not touched. What was
measured is kept in the run folder, so that a killed run measures nothing twice.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold, Source, Task
from pipelines import build, runs

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig
    from core.training.loader import StepLoader
    from core.training.module import SequenceModule


log = logging.getLogger("longstrand.tries")


@dataclass(frozen=True)
class Try:
    """What one short training showed: loss on validation rows, seconds a training step."""

    steps: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What the short trainings of a run share. All of a fold have the same seed, hence the same
    first weights and the same batches."""

    config: DictConfig
    source: Source
    task: Task
    folder: Path

    def measure(self, fold: Fold, index: int, name: str, encoder: EncoderConfig, steps: int) -> Try:
        """Train `encoder` on the fold for so many steps, or read what an earlier start measured.

        Raises:
            LongstrandError: the training diverged.
        """
        kept = self.folder / fold.name / f"{name}-{steps}.json"
        if not kept.is_file():
            checkpoints = kept.with_suffix("")
            found = self._train(fold, index, encoder, steps, checkpoints)
            runs.write_json(kept, asdict(found))
            shutil.rmtree(checkpoints)
        measured = Try(**json.loads(kept.read_text()))
        log.info(
            "fold %s, %s: validation loss %.4f after %d steps of %.4f s",
            fold.name,
            name,
            measured.loss,
            measured.steps,
            measured.seconds,
        )
        return measured

    def _train(
        self, fold: Fold, index: int, encoder: EncoderConfig, steps: int, folder: Path
    ) -> Try:
        import pytorch_lightning as lightning

        from core.training.fit import fit

        config, seed = self.config, fold_seed(self.config, index)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = self.task.fit_tokenizer(self.source, fold.train)
        lightning.seed_everything(seed, verbose=False)
        module = self.task.module(tokenizer, encoder)
        loader = self.task.loader(self.source, tokenizer, fold.train, seed, steps)
        # Speed is that of the second half: the first builds plans and warms up.
        fitting = replace(build.fitting(config.trainer), steps=steps, log_every=-(-steps // 2))
        fit(module, loader, build.optimiser(config.trainer), fitting, folder, seed)
        if module.steps_per_second is None:  # killed after its last step: nothing was left to time
            shutil.rmtree(folder)
            return self._train(fold, index, encoder, steps, folder)
        return Try(steps, self._loss(module, tokenizer, fold, seed), 1 / module.steps_per_second)

    def _loss(self, module: SequenceModule, tokenizer: Any, fold: Fold, seed: int) -> float:
        batches = self.config.attention.tries.batches
        loader = self.task.loader(self.source, tokenizer, fold.validation, seed, batches)
        return mean_loss(module, loader)


def mean_loss(module: SequenceModule, loader: StepLoader) -> float:
    """Of a trained module over batches of rows that it was not trained on."""
    import torch
    from pytorch_lightning.utilities import move_data_to_device

    with torch.no_grad():
        losses = [module.loss(move_data_to_device(b, module.device)) for b in loader]
    return float(torch.stack(losses).double().mean())


def fold_seed(config: DictConfig, index: int) -> int:
    """Of everything that is drawn for a fold."""
    return config.seed + 1000 * index
