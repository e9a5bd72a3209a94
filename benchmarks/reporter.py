"""Regulatory variants of held-out elements: saturation mutagenesis in reporter assays (Kircher et
al. 2019, doi:10.1038/s41467-019-11526-w), one of 21 elements held out at a time.

    python -m benchmarks.reporter [steps=130] [threads=1] [out=DIR]

Substitutions and deletions of a base with 10 tags or more, one experiment an element (SORT1's other
orientation is left out). A deletion in a run of one base is spelled at several places: they are one
event, and their numbers are averaged by tags. Labels are in shares of the standard deviation of an
element's substitutions, which a correlation within one does not see.

Of each row, `variants` says what is judged (substitution or deletion) and `learned` what of the
other 20 elements the model learned from. `ours` is the difference head, `ours_bases` the four
numbers a base of the same network. Floors: the kind of event (its bases), place in the element,
ridge regression on the 11 bases around (with labels as they are: the honest zero) and on the change
of 6-mers. `measured` is no floor: the mean of what the same experiment found for the substitutions
of the deleted bases. The figure is the mean over elements of Pearson's r; its interval resamples
elements. `a - b` is the mean of differences. `seconds_train` is of all trainings of one network,
the refit among them, with what they predict.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.configured import training_config
from benchmarks.reporter_data import DELETION, SUBSTITUTION, read
from benchmarks.reporter_floors import BOTH, Scores, by_element, floors, mean_over
from benchmarks.results import folder, machine, start, table, write

# Few elements teach little but short motifs: the encoder beside the tables is small. Tables were
# preferred to convolutions on elements held out inside either half of them; that k-mers carry most
# was first seen on all elements, and steps, lr and flank are a budget of minutes.
SETTINGS = (
    "domain.data.source=files",
    "domain.data.label=label",
    "domain.data.weight=tags",
    "domain.data.weight_half=100",
    "domain.data.split={kind: contig, folds: 21, validation: 0}",
    "domain.head=difference",
    "domain.difference={flank: 12, events: 256, kmers: [5, 6, 7, 8]}",
    "domain.window=32",
    "domain.batch_size=2",
    "domain.noise=0",
    "model={dim: 8, layers: 1, heads: 1, dropout: 0}",
    "attention.radius=8",
    "trainer.lr=6.0e-3",
)
COLUMNS = (
    "variants",
    "count",
    "learned",
    "model",
    "metric",
    "value",
    "low",
    "high",
    "seconds_train",
)
Name = tuple[str, str]
Pairs = tuple[tuple[Name, Name], ...]
# What is set against what, of substitutions and of deletions.
PAIRS: tuple[Pairs, Pairs] = (
    (
        (("ours", SUBSTITUTION), ("ridge_6mers", SUBSTITUTION)),
        (("ours", BOTH), ("ours", SUBSTITUTION)),
    ),
    ((("ours", BOTH), ("ridge_6mers", BOTH)), (("ours", BOTH), ("ours", SUBSTITUTION))),
)


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    steps: int = 130
    threads: int = 1
    quick: bool = False
    out: str = ""


@dataclass(frozen=True)
class Training:
    """A run of the pipeline: its folder, configuration and seconds."""

    run: Path
    config: Any
    seconds: float


def trained(rows: pl.DataFrame, where: Path, settings: Settings, out: Path) -> Training:
    """One training an element on the rows outside of it, and one on all."""
    from pipelines.train import train

    out.mkdir()
    labels = out / "labels.tsv"
    written = rows.select("chrom", pl.col("pos") + 1, "ref", "alt", "label", "tags")
    written.write_csv(labels, separator="\t")
    wanted = [
        "domain=genomics",
        *SETTINGS,
        f"domain.data.fasta={where / 'elements_hg38.fa'}",
        f"domain.data.variants={labels}",
        f"trainer.steps={settings.steps}",
        f"threads={settings.threads}",
        f"runs={out}",
        "logger=none",
    ]
    config = training_config(wanted)
    began = time.perf_counter()
    summary = train(config)
    assert not summary["set_aside"], "all rows are told, in order"
    return Training(Path(summary["run"]), config, time.perf_counter() - began)


def deletions_by(alone: Training, labels: Path) -> np.ndarray:
    """The difference head's number of each deletion of `labels`, by the training of `alone` that
    saw nothing of its element."""
    from safetensors.torch import load_file

    from pipelines import build
    from pipelines.domains import load_domain

    domain, config = load_domain("genomics"), build.domain_config(alone.config.domain)
    task, source = domain.task(config), domain.open(config, "train")
    all_kinds = replace(config, data=replace(config.data, variants=str(labels)))
    others = domain.open(all_kinds, "train")
    encoder = build.encoder(alone.config, build.pattern(alone.config.attention))
    parts = []
    for fold in task.folds(source)[:-1]:
        saved = alone.run / "checkpoints" / fold.name
        tokenizer = task.load_tokenizer(json.loads((saved / "tokenizer.json").read_text()), {})
        module = task.module(tokenizer, encoder)
        module.load_state_dict(load_file(saved / "model.safetensors"))
        own = source.select(fold.test)["chrom"].unique()
        chosen = others.variants.filter(pl.col("chrom").is_in(own.implode()), pl.col("alt") < 0)
        parts.append(task.predict(module, others, tokenizer, chosen["row"]))
    return pl.concat(parts).sort("row")["difference"].to_numpy()


def ours(
    rows: pl.DataFrame, where: Path, settings: Settings
) -> tuple[tuple[Scores, Scores], dict[str, float]]:
    """Scores of substitutions and of deletions, and seconds by what was learned from."""
    single = rows["kind"] == SUBSTITUTION
    with tempfile.TemporaryDirectory() as out:
        alone = trained(rows.filter(single), where, settings, Path(out) / SUBSTITUTION)
        both = trained(rows, where, settings, Path(out) / BOTH)
        of_alone, of_both = (
            pl.read_parquet(t.run / "predictions.parquet").sort("row") for t in (alone, both)
        )
        deletions = deletions_by(alone, Path(out) / BOTH / "labels.tsv")
    told = of_both["difference"].to_numpy()
    of_single: Scores = {
        ("ours", SUBSTITUTION): of_alone["difference"].to_numpy(),
        ("ours_bases", SUBSTITUTION): of_alone["raw"].to_numpy(),
        ("ours", BOTH): told[single.to_numpy()],
    }
    of_deletions: Scores = {
        ("ours", SUBSTITUTION): deletions,
        ("ours", BOTH): told[~single.to_numpy()],
    }
    return (of_single, of_deletions), {SUBSTITUTION: alone.seconds, BOTH: both.seconds}


def figures(
    rows: pl.DataFrame, scores: Scores, pairs: Pairs, seconds: dict[str, float]
) -> list[dict[str, Any]]:
    """A row a model, and one a pair of them; `rows` are of one kind."""
    kind = str(rows["kind"][0])
    shared = {"data": "mpra", "protocol": "element", "variants": kind, "count": len(rows)}
    each = {name: by_element(rows, score) for name, score in scores.items()}
    out = []
    for (model, learned), found in each.items():
        cost = seconds[learned] if model.startswith("ours") else None
        named = {"learned": learned, "model": model}
        out.append({**shared, **named, **mean_over(found), "seconds_train": cost})
    for a, b in pairs:
        learned, model = (
            x if x == y else f"{x} - {y}" for x, y in zip(a[::-1], b[::-1], strict=True)
        )
        named = {"learned": learned, "model": model}
        out.append({**shared, **named, **mean_over(each[a] - each[b]), "seconds_train": None})
    return out


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    began = machine()
    where = Path(os.environ.get("LONGSTRAND_DATA", "../shared/data")) / "genomics" / "mpra_satmut"
    rows, sequences = read(where)
    if settings.quick:
        settings = Settings(2, settings.threads, True, settings.out)
    beside = floors(rows, sequences)
    by_network, seconds = ours(rows, where, settings)
    found = []
    for i, kind in enumerate((SUBSTITUTION, DELETION)):
        own = rows.filter(pl.col("kind") == kind)
        found += figures(own, beside[i] | by_network[i], PAIRS[i], seconds)
    print(table(found, COLUMNS), flush=True)
    print("wrote", write("reporter", found, began, "cpu", folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, run)
