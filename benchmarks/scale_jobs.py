"""What `benchmarks.scale` scores: two million transactions, and a yeast's natural variants.

The models are untrained: what is measured is reading, scoring and writing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import torch

from core.attention import Window
from core.bundle import write_bundle
from core.calibration import Calibration
from core.model.encoder import EncoderConfig
from domains.finance import domain as finance
from domains.finance.config import FinanceConfig, FinanceData, View
from domains.finance.formats import ROW_GROUP
from domains.finance.labelled import TransactionSource
from domains.finance.schema import named_schema
from domains.finance.simulate import simulate_transactions
from domains.genomics import domain as genomics
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData
from domains.genomics.tokenizer import EffectTokenizer
from pipelines.train import plain

ROOT = Path(__file__).resolve().parent.parent
DAYS = 60


@dataclass(frozen=True)
class Scoring:
    """One job: a bundle, an input, and the suffix of its output."""

    bundle: Path
    input: Path
    suffix: str


@dataclass(frozen=True)
class Sizes:
    """Of the jobs."""

    transactions: int = 2_000_000
    customers: int = 2000
    terminals: int = 4000


QUICK = Sizes(transactions=3000, customers=40, terminals=60)


def transactions(folder: Path, sizes: Sizes) -> Scoring:
    """Copies of a simulated stretch of 60 days, one after the other, of the same cards and
    terminals; the model is the one that `domain=finance` trains by default."""
    data = FinanceData(customers=sizes.customers, terminals=sizes.terminals, days=DAYS)
    path = folder / "transactions.parquet"
    write_copies(simulate_transactions(data), DAYS, sizes.transactions, path)
    config = FinanceConfig(data=FinanceData("files", str(path), "simulated"))
    source, task = TransactionSource(path, named_schema(config.data)), finance.task(config)
    tokenizer = task.fit_tokenizer(source, source.events["row"].head(50_000))
    encoder = EncoderConfig(dim=48, layers=2, heads=4, ffn=4, pattern=Window(4096))
    return untrained("finance", task, tokenizer, encoder, finance.carried(config), path, ".parquet")


def write_copies(stretch: pl.DataFrame, days: int, rows: int, path: Path) -> None:
    """Copies of so many days, one after the other, until there are enough rows; in the memory of
    a few."""
    copies = [
        stretch.lazy().with_columns(
            pl.format("{}-{}", pl.lit(copy), "transaction_id").alias("transaction_id"),
            pl.col("time") + timedelta(days=days * copy),
        )
        for copy in range(-(-rows // len(stretch)))
    ]
    pl.concat(copies).head(rows).sink_parquet(path, row_group_size=ROW_GROUP)


def handbook_sized(learned: Path, input: Path) -> Scoring:
    """Our model at the size of experiment=handbook.

    Args:
        learned: transactions that its tokenizer is fitted on.
    """
    views = [View(["customer"], 64), View(["terminal"], 64)]
    config = FinanceConfig(data=FinanceData("files", str(learned), "simulated"), views=views)
    source, task = TransactionSource(learned, named_schema(config.data)), finance.task(config)
    tokenizer = task.fit_tokenizer(source, source.events["row"])
    encoder = EncoderConfig(dim=64, layers=2, heads=16, ffn=4, pattern=Window(4096))
    carried = finance.carried(config)
    return untrained("finance", task, tokenizer, encoder, carried, input, ".parquet")


def variants(folder: Path, sizes: Sizes) -> Scoring | None:
    """260,526 records over the whole genome; None where the data is not held. The model is small,
    because nearly all of 12 million bases have to pass it."""
    held = Path(os.environ.get("LONGSTRAND_DATA", ROOT.parent / "shared/data")) / "genomics/yeast"
    if not held.is_dir():
        return None
    name = "Saccharomyces_cerevisiae.R64-1-1"
    data = GenomicsData(
        source="files",
        fasta=str(held / f"{name}.dna.primary_assembly.fa.gz"),
        annotation=str(held / f"{name}.109.gtf.gz"),
    )
    config = GenomicsConfig(data=data, window=2048, strand="plus")
    encoder = EncoderConfig(dim=16, layers=1, heads=2, pattern=Window(16))
    tokenizer, task = EffectTokenizer("regression", 0.0, 1.0), genomics.task(config)
    path = held / "saccharomyces_cerevisiae.vcf.gz"
    carried = genomics.carried(config)
    return untrained("genomics", task, tokenizer, encoder, carried, path, ".vcf.gz", folder)


JOBS: Mapping[str, Callable[[Path, Sizes], Scoring | None]] = {
    "transactions": transactions,
    "variants": variants,
}


def untrained(
    domain: str,
    task: Any,
    tokenizer: Any,
    encoder: EncoderConfig,
    config: Any,
    input: Path,
    suffix: str,
    folder: Path | None = None,
    members: int = 1,
) -> Scoring:
    """The bundle of a model, or an ensemble of `members`, before its first step, beside the input
    where no folder is named."""
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder)
    if members > 1:
        module = module.ensemble([copy.deepcopy(module) for _ in range(members)])
    bundle = (folder or input.parent) / f"{domain}-bundle"
    write_bundle(
        bundle,
        manifest={
            "domain": domain,
            "task": task.name,
            "created": "2026-01-01T00:00:00",
            "fingerprint": "untrained",
            "label_intervals": [],
            "config": plain(config),
        },
        encoder=encoder,
        weights=module.state_dict(),
        tokenizer=tokenizer.to_dict(),
        calibration=Calibration(),
        metrics=[],
        reference=[],
        model_card="An untrained model: it only takes time.\n",
    )
    return Scoring(bundle, input, suffix)
