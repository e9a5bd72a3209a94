"""What a genome without labels teaches: yeast, from chromosomes I to XIV to XV and XVI.

    python -m benchmarks.pretraining [bundle=DIR] [threads=2] [seconds=0] [tuned=500] [quick=true]
        [out=DIR]

Trains `experiment=yeast` as the pipeline does, or reads a bundle of such a run, and prints bits a
base and accuracy on the held-out chromosomes beside tables of counts from the same data. Then it
tells natural variants of those chromosomes from matched controls by `LS_LLR` in its masked form,
beside the rank of consequences and the local density of natural variants (which is an answer, not a
prediction: it reads the test's own variants), and by trainings of `tuned` steps on the variants of
all other chromosomes, one that begins from the bundle and one that does not (`anew`); 0 leaves
them out. `seconds` ends the training by time, 0 by its steps.
`seconds_train` and `per_second` (bases learned from a second) are of the training with its
predictions of held-out bases. Intervals resample stretches of 4,096 bases, of variants blocks of
10,000.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.configured import training_config
from benchmarks.natural_tuned import tuned
from benchmarks.natural_variants import Natural, Row, measure, read_natural
from benchmarks.results import folder, machine, start, table, write
from core.bundle import Bundle, load_bundle, restore
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.genome_source import GenomeSource
from domains.genomics.masked import MaskedTask
from domains.genomics.masked_scoring import masked_levels
from pipelines import build

COLUMNS = ("data", "protocol", "model", "metric", "value", "low", "high")
SPEEDS = ("seconds_train", "per_second")
VARIANTS = "yeast_sgrp_vs_unobserved.tsv.gz"
QUICK = ("trainer.steps=3", "model.dim=16", "domain.window=256", "domain.batch_size=2")


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    bundle: str = ""
    threads: int = 2
    seconds: float = 0.0
    tuned: int = 500
    quick: bool = False
    out: str = ""


def trained(settings: Settings, runs: Path) -> Path:
    """The bundle of a run in `runs`."""
    from pipelines.train import train

    given = ["domain=genomics", "experiment=yeast", f"threads={settings.threads}", f"runs={runs}"]
    given += [f"trainer.seconds={settings.seconds}", "logger=none"]
    config = training_config([*given, *(QUICK if settings.quick else ())])
    return Path(train(config)["bundle"])


def _cost(run: Path) -> dict[str, float]:
    """Seconds and bases a second of the training, from its log and its checkpoint."""
    done = re.search(r" train done, .*seconds=([0-9.]+)", (run / "train.log").read_text())
    if done is None:
        raise ConfigError(f"{run}/train.log: found no end of a training, expected 'train done'")
    seconds = float(done[1])
    state = torch.load(run / "checkpoints/held_out/last.ckpt", weights_only=True)
    config = load_bundle(run / "bundle").config
    seen = state["global_step"] * config["window"] * config["batch_size"]
    return {"seconds_train": seconds, "per_second": seen / seconds}


def zero_shot(bundle: Bundle) -> tuple[Natural, np.ndarray]:
    """Held-out natural variants and their controls, and the masked log-likelihood ratio of each."""
    from omegaconf import OmegaConf

    settings = build.restored_config(domain, bundle.config, OmegaConf.create())
    source, task = domain.open(settings, "train"), domain.task(settings)
    if not isinstance(source, GenomeSource) or not isinstance(task, MaskedTask):
        raise ConfigError(f"bundle: found task {bundle.task} at {bundle.path}, expected mlm")
    _, module = restore(bundle, task)
    reference = source.reference
    path = reference.genome.path.parent / VARIANTS
    natural = read_natural(path, reference.genome, sorted(source.test))
    chrom, pos = (natural.rows[c].to_numpy() for c in ("chrom", "pos"))
    score, shared = np.empty(len(pos)), np.empty(len(pos), dtype=bool)
    for name in natural.rows["chrom"].unique():
        here = chrom == name
        sites, place = np.unique(pos[here], return_inverse=True)
        level = masked_levels(module, reference, name, sites, settings.window)[place]
        ref, alt = (natural.rows[c].to_numpy()[here].astype(int) for c in ("ref", "alt"))
        each = np.arange(len(level))
        score[here] = level[each, alt] - level[each, ref]
        covered = source.known_sequence.covers(reference.sequence(name))
        shared[here] = covered[pos[here]]
    rows = natural.rows.with_columns(shared=shared)
    return replace(natural, rows=rows), score


def benchmark(settings: Settings) -> None:
    """Train or read, measure, print and write."""
    began = machine()
    build.tune_process(settings.threads)
    with tempfile.TemporaryDirectory() as runs:
        path = Path(settings.bundle) if settings.bundle else trained(settings, Path(runs))
        rows = judged(path, settings)
    print(table(rows, (*COLUMNS, *SPEEDS)))
    print(write("pretraining", rows, began, folder=folder(settings.quick, settings.out)))


def judged(path: Path, settings: Settings) -> list[Row]:
    """What a bundle learned, what that cost where its run is beside it, and what it tells of
    natural variants."""
    cost: dict[str, Any] = dict.fromkeys(SPEEDS)
    if (path.parent / "train.log").is_file():
        cost = _cost(path.parent)
    bundle = load_bundle(path)
    rows: list[Row] = [
        {**metric, **(cost if metric["model"] == "ours" else dict.fromkeys(SPEEDS))}
        for metric in bundle.metrics
    ]
    natural, score = zero_shot(bundle)
    shared = float(natural.rows["shared"].to_numpy().mean())
    print(f"{shared:.2%} of the variants lie in sequence that is learned from too", flush=True)
    held = f"held-out contigs {' '.join(_tested(bundle))}"
    rows += measure(natural, {"ours": score, **natural.floors}, f"{held}, zero-shot")
    steps = min(settings.tuned, 2) if settings.quick else settings.tuned
    if steps:
        both = {
            name: tuned(natural.rows["row"], bundle, begin, settings.threads, steps)
            for name, begin in (("ours", True), ("anew", False))
        }
        rows += measure(natural, both, f"{held}, fine-tuned")
    return rows


def _tested(bundle: Bundle) -> list[str]:
    return list(bundle.config["masked"]["test"])


if __name__ == "__main__":
    start(Settings, benchmark)
