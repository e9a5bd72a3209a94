"""What `benchmarks.throughput` runs beside our scoring: LightGBM on features made by hand.

    python -m benchmarks.throughput_trees fit INPUT FOREST
    python -m benchmarks.throughput_trees score INPUT FOREST OUTPUT

Files hold simulated transactions; `score` reads and checks them as training does, and writes their
rows with a probability each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.fraud_features import Events, extended_features, handbook_features, table
from benchmarks.fraud_models import LARGE, RIVALS
from domains.finance.config import FinanceData
from domains.finance.labelled import TransactionSource
from domains.finance.schema import named_schema

RIVAL = RIVALS["lightgbm_49"]


def features(input: Path) -> tuple[TransactionSource, np.ndarray]:
    """Checked rows in time order, and [n, 49]."""
    source = TransactionSource(input, named_schema(FinanceData("files", str(input), "simulated")))
    events, delay = Events.of(source), source.schema.label_delay
    columns = {**handbook_features(events, delay), **extended_features(events, delay)}
    return source, table(columns)


def fit(input: Path, forest: Path) -> int:
    """Rows learned from."""
    source, x = features(input)
    label = (source.events["label"] == 1).fill_null(False).to_numpy()
    RIVAL.fit(LARGE, 0, threads(), x, label).booster_.save_model(forest)
    return len(x)


def score(input: Path, forest: Path, output: Path) -> int:
    """Rows scored."""
    import lightgbm

    source, x = features(input)
    probability = np.asarray(lightgbm.Booster(model_file=forest).predict(x, num_threads=threads()))
    scores = source.events.select("row").with_columns(pl.Series("fraud_score", probability))
    rows = pl.read_parquet(input).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    rows.join(scores, on="row", maintain_order="left").drop("row").write_parquet(output)
    return len(scores)


def threads() -> int:
    return os.cpu_count() or 1


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    rows = {"fit": fit, "score": score}[what](*map(Path, paths))
    print(json.dumps({"rows": rows, "scored": rows}))
