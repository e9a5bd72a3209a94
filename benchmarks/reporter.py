"""Regulatory variants of held-out elements: saturation mutagenesis in reporter assays (Kircher et
al. 2019, doi:10.1038/s41467-019-11526-w), one of 21 elements held out at a time.

    python -m benchmarks.reporter [steps=130] [threads=1] [out=DIR]

Substitutions with 10 tags or more, one experiment an element (SORT1's other orientation is left
out). Labels are in shares of an element's own standard deviation, which a correlation within one
does not see. `ours` is the difference head, `ours_bases` the four numbers a base of the same
network. Floors: the kind of substitution, place in the element, ridge regression on the 11 bases
around (with labels as they are: the honest zero) and on the change of 6-mers. The figure is the
mean over elements of Pearson's r; its interval resamples elements. `seconds_train` is of all
trainings together, the refit among them, with what they predict.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.configured import training_config
from benchmarks.results import folder, machine, start, table, write
from core.errors import ConfigError
from domains.genomics.contig import UNKNOWN, encode

CONF = Path(__file__).resolve().parent.parent / "conf"
# Several experiments of one element: the first is taken.
LEFT_OUT = (
    "LDLR.2",
    "PKLR-48h",
    "SORT1-flip",
    "SORT1.2",
    "TERT-GAa",
    "TERT-GSc",
    "TERT-HEK",
    "ZRSh-13h2",
)
TAGS = 10
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
DRAWS = 1000
COLUMNS = ("data", "protocol", "model", "metric", "value", "low", "high", "seconds_train")


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    steps: int = 130
    threads: int = 1
    quick: bool = False
    out: str = ""


def read(where: Path) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Columns chrom (the element), pos (0-based), ref, alt (letters), coef, tags; and sequences.

    Raises:
        ConfigError: the data is not held there.
    """
    import pysam

    if not where.is_dir():
        raise ConfigError(
            f"data: found no reporter assays at {where}; set LONGSTRAND_DATA to the folder that "
            "holds genomics/mpra_satmut (docs/data.md)"
        )
    rows = []
    with pysam.VariantFile(str(where / "satmut.elements.vcf.gz")) as records:
        for record in records:
            info, alts = record.info, record.alts or ()
            for alt in alts if info["EXP"] not in LEFT_OUT else ():
                told = (record.chrom, record.pos - 1, record.ref, alt)
                rows.append((*told, info["COEF"], info["TAGS"]))
    names = ("chrom", "pos", "ref", "alt", "coef", "tags")
    frame = pl.DataFrame(rows, schema=list(names), orient="row").filter(
        pl.col("tags") >= TAGS, pl.col("ref", "alt").str.len_chars() == 1
    )
    with pysam.FastxFile(str(where / "elements_hg38.fa")) as contigs:
        sequences = {str(c.name): encode(c.sequence or "") for c in contigs}
    scale = pl.col("coef").std().over("chrom")
    return frame.with_columns(label=pl.col("coef") / scale), sequences


def ours(
    rows: pl.DataFrame, where: Path, settings: Settings
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of each row the numbers of the difference head and of the head of bases, by trainings that
    saw nothing of its element; and seconds."""
    from pipelines.train import train

    with tempfile.TemporaryDirectory() as out:
        labels = Path(out) / "labels.tsv"
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
        seconds = time.perf_counter() - began
        told = pl.read_parquet(Path(summary["run"]) / "predictions.parquet").sort("row")
    return told["difference"].to_numpy(), told["raw"].to_numpy(), seconds


def one_hot(rows: pl.DataFrame, sequences: dict[str, np.ndarray], reach: int) -> np.ndarray:
    """Bases up to `reach` away, and the alternative; float64 [n, 4 * (2 * reach + 2)]."""
    out = []
    padded = {name: np.pad(s, reach, constant_values=UNKNOWN) for name, s in sequences.items()}
    table = np.eye(UNKNOWN + 1)[:, :UNKNOWN]
    for name, pos, alt in rows.select("chrom", "pos", "alt").iter_rows():
        around = padded[name][pos : pos + 2 * reach + 1]
        out.append(table[np.append(around, encode(alt))].ravel())
    return np.array(out)


def kmer_change(rows: pl.DataFrame, sequences: dict[str, np.ndarray], k: int) -> Any:
    """How many more there are of each run of k bases, on either strand; sparse [n, 4^k]."""
    from scipy import sparse

    place, column, value = [], [], []
    padded = {name: np.pad(s, k, constant_values=UNKNOWN) for name, s in sequences.items()}
    units = 4 ** np.arange(k)
    for row, (name, pos, alt) in enumerate(rows.select("chrom", "pos", "alt").iter_rows()):
        before = padded[name][pos + 1 : pos + 2 * k].astype(np.int64)
        after = before.copy()
        after[k - 1] = encode(alt)[0]
        for window, sign in ((after, 1.0), (before, -1.0)):
            runs = np.lib.stride_tricks.sliding_window_view(window, k)
            runs = runs[(runs != UNKNOWN).all(axis=1)]
            index = np.minimum(runs @ units[::-1], (3 - runs) @ units)
            place += [row] * len(index)
            column += index.tolist()
            value += [sign] * len(index)
    return sparse.csr_matrix((value, (place, column)), shape=(len(rows), 4**k))


def fitted(rows: pl.DataFrame, features: Any, label: str, strength: float) -> np.ndarray:
    """Ridge regression's number of each row, by one that saw nothing of its element."""
    from sklearn.linear_model import Ridge

    element, y = rows["chrom"].to_numpy(), rows[label].to_numpy()
    out = np.empty(len(rows))
    for name in np.unique(element):
        here = element == name
        model = Ridge(alpha=strength, solver="sparse_cg" if features.shape[1] > 1000 else "auto")
        out[here] = model.fit(features[~here], y[~here]).predict(features[here])
    return out


def places(rows: pl.DataFrame, sequences: dict[str, np.ndarray]) -> np.ndarray:
    """Share of the element before the base, its square and its distance from the middle."""
    length = np.array([len(sequences[name]) for name in rows["chrom"]])
    share = (rows["pos"].to_numpy() + 0.5) / length
    return np.column_stack([share, share**2, np.abs(share - 0.5)])


def mean_pearson(rows: pl.DataFrame, score: np.ndarray) -> dict[str, Any]:
    """Mean over elements of the correlation within each, and its interval over elements."""
    element, coef = rows["chrom"].to_numpy(), rows["coef"].to_numpy()
    each = []
    for name in np.unique(element):
        a, b = score[element == name], coef[element == name]
        each.append(float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 else 0.0)
    found = np.array(each)
    draw = np.random.default_rng(0).integers(0, len(found), (DRAWS, len(found)))
    low, high = np.percentile(found[draw].mean(axis=1), [2.5, 97.5])
    value = {"value": float(found.mean()), "low": float(low), "high": float(high)}
    return {"metric": "mean_pearson", **value, "elements": [round(r, 3) for r in each]}


def floors(rows: pl.DataFrame, sequences: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores by model."""
    kind = rows.select(pl.concat_str("ref", "alt")).to_series().to_dummies().to_numpy()
    around = one_hot(rows, sequences, 5)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "ridge_11_bases": lambda: fitted(rows, around, "coef", 100.0),
        "substitution": lambda: fitted(rows, kind, "label", 1.0),
        "place": lambda: fitted(rows, places(rows, sequences), "label", 1.0),
        "ridge_6mers": lambda: fitted(rows, kmer_change(rows, sequences, 6), "label", 100.0),
    }
    return {name: make() for name, make in makers.items()}


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    began = machine()
    where = Path(os.environ.get("LONGSTRAND_DATA", "../shared/data")) / "genomics" / "mpra_satmut"
    rows, sequences = read(where)
    scores, seconds = floors(rows, sequences), None
    if settings.quick:
        settings = Settings(2, settings.threads, True, settings.out)
    difference, bases, seconds = ours(rows, where, settings)
    scores |= {"ours": difference, "ours_bases": bases}
    shared = {"data": "mpra", "protocol": "element", "variants": len(rows)}
    found = []
    for name, score in scores.items():
        cost = seconds if name.startswith("ours") else None
        found.append({**shared, "model": name, **mean_pearson(rows, score), "seconds_train": cost})
    print(table(found, COLUMNS), flush=True)
    print("wrote", write("reporter", found, began, "cpu", folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, run)
