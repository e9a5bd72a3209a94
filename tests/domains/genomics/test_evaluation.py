"""Predictions and figures on labels that no fold knows: another file, few alleles, one group."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from core.contract import Fold
from core.errors import DataContractError, LongstrandError, TooFewLabelsError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData
from domains.genomics.figures import pooled_metrics
from domains.genomics.interval import rows_inside, write_intervals
from domains.genomics.tokenizer import EffectTokenizer

HLA = "HLA-A*01:01"
LABELS = [("1", 3, "G"), ("1", 4, "T"), (HLA, 2, "C"), (HLA, 7, "G"), (HLA, 11, "G")]


def _source(folder: Path, labels: list[tuple[str, int, str]], **data: Any):  # type: ignore[no-untyped-def]
    folder.mkdir(exist_ok=True)
    first = data.pop("first", "1")
    (folder / "g.fa").write_text(f">{first}\n{'ACGT' * 5}\n>{HLA}\n{'ACGT' * 5}\n")
    lines = [
        f"{chrom}\t{pos}\t{ref}\t{'A' if ref != 'A' else 'C'}\t{value}"
        for value, (chrom, pos, ref) in enumerate(labels)
    ]
    (folder / "v.tsv").write_text("\n".join(["chrom\tpos\tref\talt\tL", *lines]) + "\n")
    files = {"fasta": str(folder / "g.fa"), "variants": str(folder / "v.tsv")}
    config = GenomicsConfig(data=GenomicsData(source="files", label="L", **files, **data))
    return domain.open(config, "train")


def _seen_by_training(folder: Path) -> list[str]:
    source = _source(folder, LABELS)
    rows = source.variants["row"]
    task = domain.task(replace(source.config, data=source.config.data))
    task.config.data.split.purge = 2
    return task.label_intervals(source, Fold("all", rows[:4], rows[4:], rows.clear()))


def test_seen_rows_are_found_in_another_file_and_under_another_name(tmp_path: Path) -> None:
    intervals = _seen_by_training(tmp_path / "one")
    assert intervals == ["1:2-4", f"{HLA}:1-2", f"{HLA}:6-7", f"{HLA}:10-11"]
    places = [("1", 2, "C"), ("1", 4, "T"), ("1", 5, "A"), (HLA, 3, "G"), (HLA, 11, "G")]
    other = _source(tmp_path / "two", places)
    task = domain.task(other.config)
    assert task.seen_rows(other, intervals).to_list() == [1, 4]
    assert task.seen_rows(other, []).to_list() == []
    assert task.seen_rows(other, ["1:0-20", "1:1-2"]).to_list() == [0, 1, 2]
    renamed = _source(
        tmp_path / "three", [("chr1", 4, "T")], first="chr1", contig_alias={"1": "chr1"}
    )
    assert task.seen_rows(renamed, intervals).to_list() == [0]
    with pytest.raises(DataContractError, match="label_intervals holds 'card 7'"):
        task.seen_rows(other, ["card 7"])


def test_all_bases_of_an_event_are_seen(tmp_path: Path) -> None:
    genome = _source(tmp_path, LABELS).reference.genome
    schema = {"row": pl.Int64, "chrom": pl.String, "pos": pl.Int64, "end": pl.Int64}
    learned = pl.DataFrame(
        [(0, "1", 2, 9), (1, "1", 4, None), (2, HLA, 0, 0)], schema=schema, orient="row"
    )
    intervals = write_intervals(learned, 1)
    assert intervals == ["1:2-9", f"{HLA}:0-1"]
    told = [(0, "1", 8, None), (1, "1", 9, None), (2, "1", 0, 3), (3, "1", 0, 2), (4, HLA, 0, None)]
    others = pl.DataFrame(told, schema=schema, orient="row")
    assert rows_inside(others, intervals, genome).to_list() == [0, 2, 4]


@pytest.mark.parametrize("count", [2, 3])
def test_few_alleles_of_one_group_are_predicted_and_measured(
    tmp_path: Path, encoder: Any, count: int
) -> None:
    source = _source(tmp_path, LABELS[2 : 2 + count])
    task = domain.task(source.config)
    with pytest.raises(TooFewLabelsError, match="1 groups"):
        task.folds(source)
    tokenizer = EffectTokenizer("regression", 0.0, 1.0, annotated=False)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder)
    predictions = task.predict(module, source, tokenizer, source.variants["row"]).with_columns(
        score=pl.col("raw"), fold=pl.lit("evaluated")
    )
    (metric,) = task.metrics(source, predictions)
    json.dumps(asdict(metric), allow_nan=False)
    assert metric.protocol == "held-out contig, interval over alleles"
    assert metric.low <= metric.value <= metric.high and metric.low < metric.high
    assert task.panels(source, predictions)


def test_a_single_allele_has_no_figure(tmp_path: Path) -> None:
    source = _source(tmp_path, LABELS[:1])
    one = source.variants.with_columns(score=pl.lit(0.5), raw=pl.lit(0.5))
    assert domain.task(source.config).metrics(source, one) == []


def test_classes_of_one_group_have_intervals_and_one_class_has_no_figure() -> None:
    label = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    frame = pl.DataFrame(
        {"row": range(6), "label": label, "score": [0.1, 0.4, 0.5, 0.3, 0.9, 0.2], "group": "g"}
    )
    metrics = pooled_metrics(frame, "classification", "d", "p")
    assert [m.metric for m in metrics] == ["auroc", "auprc"]
    assert all(m.low <= m.value <= m.high and m.low < m.high for m in metrics)
    constant = frame.with_columns(label=pl.lit(0.0))
    assert pooled_metrics(constant, "classification", "d", "p") == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_metrics_refuse_what_is_not_finite(bad: float | None) -> None:
    frame = pl.DataFrame(
        {"row": [5, 6, 7], "label": [0.0, 1.0, 2.0], "score": [0.1, bad, 0.2], "group": list("abc")}
    )
    with pytest.raises(LongstrandError, match="score of row 6"):
        pooled_metrics(frame, "regression", "d", "p")


def test_a_diverged_model_predicts_nothing(tmp_path: Path, encoder: Any) -> None:
    source = _source(tmp_path, LABELS)
    task, tokenizer = (
        domain.task(source.config),
        EffectTokenizer("regression", 0.0, 1.0, annotated=False),
    )
    module = task.module(tokenizer, encoder)
    with torch.no_grad():
        module.head.out.weight.fill_(float("nan"))
    with pytest.raises(LongstrandError, match=r"^1:3: .*nan.* 5 of 5 .*diverged"):
        task.predict(module, source, tokenizer, source.variants["row"])
