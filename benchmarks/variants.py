"""Variant effects on held-out blocks and exons: our network beside boosted trees and floors.

    python -m benchmarks.variants [data=sars2,brca1] [models=ours,trees,...] [quick=true] [out=DIR]

Every model is tested on the same rows of the same folds; trees and floors train on what our network
trains on. `ours` is trained by the pipeline as `python -m pipelines.train domain=genomics
experiment=DATA` does it; `protocols=blocks5 predictions=FILE` reads the out-of-fold predictions of
such a run instead. `cnn` is a convolutional network of the same size (`variant_cnn`); `trees_facts`
are told what `domain.facts` tells a network. Intervals resample whole blocks or exons.
`seconds_train` is of all folds together, of ours with the refit on all groups; `per_second` counts
alleles. Rows of protocols that a run does not measure are kept, with the commit that measured them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.paired import Estimate, Figure, estimates
from benchmarks.results import folder, machine, start, table, write
from benchmarks.variant_data import DATA, QUICK, Protocol
from benchmarks.variant_models import MODELS, Held, Told, hold, tell
from core.errors import ConfigError
from domains.genomics.figures import FIGURES

COLUMNS = ("data", "protocol", "model", "metric", "value", "low", "high")
SPEEDS = ("seconds_train", "per_second")
BESIDE = ("trees", "trees_length", "trees_facts", "cnn")  # what ours is compared with
FEWEST = 20  # alleles of each of the two classes, or of a regression, for a figure of a class


@dataclass(frozen=True)
class Settings:
    """Options of the command line; an empty list means all."""

    data: str = "sars2,brca1"
    protocols: str = ""
    models: str = ",".join(MODELS)
    predictions: str = ""
    threads: int = 0
    quick: bool = False
    out: str = ""


def measure(held: Held, told: Mapping[str, Told]) -> list[dict[str, Any]]:
    """A row a model and figure; `ours - trees` beside them; then classes and their mean."""
    rows: list[dict[str, Any]] = []
    kind = held.config.domain.data.label_kind
    for name, figure in FIGURES[kind].items():
        rows += _rows(held, told, name, figure, np.ones(len(held.rows), dtype=bool), "")
    name, figure = next(iter(FIGURES[kind].items()))
    values: dict[str, list[float]] = {}
    for title, chosen in _classes(held.rows, kind).items():
        found = _rows(held, told, name, figure, chosen, f", {title}")
        rows += found
        if title not in UNIONS:
            for row in found:
                values.setdefault(row["model"], []).append(row["value"])
    for model, each in values.items():
        shared = {"data": held.protocol.data, "protocol": held.protocol.name, "model": model}
        nothing = dict.fromkeys(("low", "high", *SPEEDS))
        mean = {"metric": f"macro_{name}", "value": float(np.mean(each))}
        rows.append({**shared, **mean, **nothing})
    return rows


UNIONS = {
    "splice": ("splice_acceptor_variant", "splice_donor_variant", "splice_region_variant"),
    "non-coding": (
        "splice_acceptor_variant",
        "splice_donor_variant",
        "splice_region_variant",
        "intron_variant",
        "5_prime_UTR_variant",
        "3_prime_UTR_variant",
        "intergenic_variant",
    ),
}


def _classes(rows: pl.DataFrame, kind: str) -> dict[str, np.ndarray]:
    """Which rows are of each consequence, and of the groups of them that geneticists ask for."""
    if "consequence" not in rows.columns:
        return {}
    terms = sorted(rows["consequence"].unique().drop_nulls())
    wanted = {**{term: (term,) for term in terms}, **UNIONS}
    label = rows["label"].to_numpy()
    out = {}
    for title, of in wanted.items():
        chosen = rows["consequence"].is_in(list(of)).fill_null(False).to_numpy()
        counts = [chosen.sum()]
        if kind == "classification":
            counts = [int((label[chosen] == side).sum()) for side in (0, 1)]
        if min(counts) >= FEWEST:
            out[title] = chosen
    return out


def _rows(
    held: Held,
    told: Mapping[str, Told],
    metric: str,
    figure: Figure,
    chosen: np.ndarray,
    title: str,
) -> list[dict[str, Any]]:
    label, group = (held.rows[c].to_numpy()[chosen] for c in ("label", "group"))
    scores = {name: one.score[chosen] for name, one in told.items()}
    pairs = [("ours", m) for m in BESIDE if {"ours", m} <= told.keys()]
    found: dict[str, Estimate] = estimates(
        label, group, scores, figure, tuple(pairs), held.protocol.draws
    )
    shared = {"data": held.protocol.data, "protocol": held.protocol.name + title}
    out = []
    for name, estimate in found.items():
        cost = {s: getattr(told[name], s) if name in told else None for s in SPEEDS}
        out.append({**shared, "model": name, "metric": metric, **vars(estimate), **cost})
    return out


def _chosen(settings: Settings) -> tuple[list[Protocol], list[str]]:
    """Raises ConfigError for unknown names, or predictions of more than one protocol."""
    models = _names("models", settings.models, MODELS)
    known = {p.data for p in DATA}
    data = _names("data", settings.data, tuple(sorted(known)))
    protocols = [p for p in DATA if p.data in data]
    if settings.quick:
        protocols = [QUICK]
    names = tuple(dict.fromkeys(p.name for p in protocols))
    if settings.protocols:
        wanted = _names("protocols", settings.protocols, names)
        protocols = [p for p in protocols if p.name in wanted]
    if settings.predictions and len(protocols) != 1:
        raise ConfigError(
            f"predictions: found a file for {len(protocols)} protocols, expected one; choose it "
            "with data= and protocols="
        )
    return protocols, models


def _names(key: str, text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{key}: found {unknown[0]!r}, expected some of {', '.join(known)}")
    return names


def _kept(where: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of an earlier file that this run has not measured, each with the commit it is of."""
    path = where / "variants.json"
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text())
    measured = {_key(row) for row in rows}
    return [
        {"commit": earlier["commit"], **row} for row in earlier["rows"] if _key(row) not in measured
    ]


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Data, protocol without the class of alleles, and model."""
    return row["data"], row["protocol"].partition(", ")[0], row["model"]


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    protocols, models = _chosen(settings)
    began = machine()
    rows: list[dict[str, Any]] = []
    for protocol in protocols:
        held = hold(protocol, settings.threads)
        print(f"{protocol.data} {protocol.name}: {len(held.rows)} alleles, {len(held.folds)} folds")
        found = measure(held, tell(held, models, settings.predictions))
        print(table(found, [*COLUMNS, *SPEEDS]), flush=True)
        rows += found
    where = folder(settings.quick, settings.out)
    print("wrote", write("variants", [*rows, *_kept(where, rows)], began, "cpu", where))


if __name__ == "__main__":
    start(Settings, run)
