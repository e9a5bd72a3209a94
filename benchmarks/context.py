"""What long context buys: the same task at several windows, beside dense attention where it fits.

    python -m benchmarks.context [experiment=sars2] [overrides="KEY=VALUE KEY=VALUE ..."]
        [windows=256,1024,4096,16384,32768] [radius=grows|stays] [tokens=0] [dense=300]
        [threads=0] [quick=true] [out=DIR]

Every row is a training by the pipeline, `python -m pipelines.train domain=genomics experiment=...
OVERRIDES` with another window, and the task's first figure on what is held out, with its interval.
`overrides` are Hydra's, apart by spaces. `used` is the window that the longest contig (of mlm, the
longest run of bases that is learned from) leaves room for. All rows learn from about as many bases
a step: `tokens`, or where that is 0 the longest window or what the experiment has, whichever is
more. So `batch_size` shrinks as windows grow.

`radius=grows` gives a window the experiment's radius times window / the experiment's window;
`radius=stays` keeps it, so that only what a training step sees at once changes. `reach` is how many
bases on either side can change a score: with bounded patterns that of all layers, else half the
window. A dense row needs pairs of bases in proportion to its window, and is left out above `dense`
billions of them (in one layer, over all trainings and judged sites; 0: no dense rows).
`per_second` is of alleles (of mlm, bases) predicted: the median of three passes over some 20,000
of the first fold, or the one pass that took over a minute. Takes long: every row costs as much as
the experiment, or more.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from benchmarks.context_data import Data, composed, opened
from benchmarks.results import folder, listed, machine, start, table, write
from core.bundle import load_bundle, restore
from core.errors import ConfigError
from pipelines import build
from pipelines.attention_schema import attention_schema
from pipelines.domains import load_domain

COLUMNS = ("attention", "window", "used", "radius", "reach", "batch_size", "tokens_step")
FIGURES = ("metric", "value", "low", "high", "per_second", "unit", "seconds_train", "note")
MEASURED = ("data", "protocol", "reach", *FIGURES)
QUICK = (
    "domain.data.simulation={contigs: 3, length: 4000, variants: 900}",
    "model={dim: 16, layers: 1, heads: 2}",
    "trainer.steps=2",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    experiment: str = ""
    overrides: str = ""
    windows: str = "256,1024,4096,16384,32768"
    radius: str = "grows"
    tokens: int = 0
    dense: int = 300
    threads: int = 0
    quick: bool = False
    out: str = ""


def planned(settings: Settings, config: DictConfig, longest: int) -> Iterator[Row]:
    """A row a pattern and window, with nothing measured yet.

    Raises ConfigError for settings that no row can follow.
    """
    texts = listed(settings.windows)
    if not texts or not all(text.isdecimal() and int(text) >= 16 for text in texts):
        raise ConfigError(
            f"windows: found {settings.windows!r}, expected 16 or more each, such as 256,1024"
        )
    kind, radius = config.attention.kind, config.attention.get("radius")
    if settings.radius not in ("grows", "stays"):
        raise ConfigError(f"radius: found {settings.radius!r}, expected grows or stays")
    if settings.radius == "grows" and radius is None:
        raise ConfigError(f"radius: found grows with attention={kind}, which has none; say stays")
    used = {window: min(window, longest) for window in map(int, texts)}
    own, most = config.domain.window, max(used.values())
    if settings.tokens and settings.tokens < most:
        raise ConfigError(f"tokens: found {settings.tokens}, expected at least a window of {most}")
    # As asked, not as cut: the windows that are not cut then have the same tokens.
    asked = min(window for window in used if window >= most)
    tokens = settings.tokens or max(own * config.domain.batch_size, asked)
    told = {"experiment": settings.experiment or None, "overrides": settings.overrides}
    for attention in (kind, *(["dense"] if settings.dense else [])):
        for window, bases in used.items():
            batch = max(1, round(tokens / bases))
            row = {**told, "attention": attention, "window": window, "used": bases}
            row |= {"radius": None, "batch_size": batch, "tokens_step": batch * bases}
            if attention == kind:
                grown = settings.radius == "grows"
                row["radius"] = max(1, round(radius * bases / own)) if grown else radius
            yield row | dict.fromkeys(MEASURED)


def left_out(row: Row, before: Sequence[Row], pairs: float, most: int) -> str | None:
    """Why a row is not trained; None where it is."""
    for other in before:
        if all(row[name] == other[name] for name in ("attention", "used")):
            return f"left out: cut to {row['used']} bases, as window {other['window']} is"
    if row["attention"] == "dense" and pairs > most * 1e9:
        return f"left out: {pairs / 1e9:,.1f} billion pairs, expected at most dense={most}"
    return None


def pairs_of(row: Row, config: DictConfig, data: Data) -> float:
    """Pairs of bases in one layer of dense attention, on both strands where both are read: a
    training step costs three passes, and a judged site a window of its own, twice where a score is
    the mean of both strands' readings."""
    steps = 3 * config.trainer.steps * data.folds * row["tokens_step"]
    each = config.trainer.members * (2 if config.domain.reader == "strands" else 1)
    readings = 2 if config.domain.strand == "both" and config.domain.task == "effect" else 1
    return float(each * (steps + readings * data.sites * row["used"]) * row["used"])


def configured(row: Row, config: DictConfig, runs: Path) -> DictConfig:
    """The experiment with the row's window, batch and attention."""
    config = copy.deepcopy(config)
    config.domain.window, config.domain.batch_size = row["used"], row["batch_size"]
    config.runs = str(runs)
    if row["attention"] == "dense":
        config.attention = OmegaConf.structured(attention_schema("dense"))
    elif row["radius"] is not None:
        config.attention.radius = row["radius"]
    return config


def measure(row: Row, config: DictConfig, data: Data) -> Row:
    """Trains and judges by the row's configuration."""
    from pipelines.train import train

    began = time.perf_counter()
    summary = train(config)
    seconds = time.perf_counter() - began
    figures = json.loads((Path(summary["run"]) / "metrics.json").read_text())
    first = next(figure for figure in figures if figure["model"] == "ours")
    task = load_domain("genomics").task(build.domain_config(config.domain))
    tokenizer, module = restore(load_bundle(Path(summary["bundle"])), task)
    median = timed(lambda: task.predict(module, data.source, tokenizer, data.timed))
    reach = module.reach()
    found = {name: first[name] for name in ("data", "protocol", "metric", "value", "low", "high")}
    found |= {"reach": row["used"] // 2 if reach is None else reach, "seconds_train": seconds}
    found |= {"per_second": data.count / median, "unit": data.unit}
    whole = row["used"] == row["window"]
    return row | found | {"note": None if whole else f"cut to {row['used']} bases, all there are"}


def timed(predict: Callable[[], object], enough: float = 60.0) -> float:
    """Seconds: the median of three passes, or the first one where it takes more than `enough`, as a
    dense row's may (every site has a window of its own)."""
    passes = list[float]()
    while len(passes) < 3 and not (passes and passes[0] > enough):
        began = time.perf_counter()
        predict()
        passes.append(time.perf_counter() - began)
    return statistics.median(passes)


def benchmark(settings: Settings) -> None:
    """Trains, prints and writes."""
    beside = [f"threads={settings.threads}", *(QUICK if settings.quick else ())]
    config = composed(settings.experiment, settings.overrides, beside)
    build.tune_process(settings.threads)
    began, rows = machine(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        data = opened(config, Path(scratch))
        for at, row in enumerate(planned(settings, config, data.longest)):
            reason = left_out(row, rows, pairs_of(row, config, data), settings.dense)
            if reason is None:
                row = measure(row, configured(row, config, Path(scratch) / str(at)), data)
            rows.append(row if reason is None else row | {"note": reason})
            print(table(rows[-1:], (*COLUMNS, *FIGURES)), flush=True)
    print(table(rows, (*COLUMNS, *FIGURES)))
    print("wrote", write("context", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
