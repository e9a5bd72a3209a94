"""Floors of the task effect: k-mers, and the network before its first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import UNKNOWN, Genome
from domains.genomics.figures import auroc
from domains.genomics.floor import untrained
from domains.genomics.kmer_floor import kmer_floor
from domains.genomics.source import Reference


@pytest.fixture
def alleles(simulated: GenomicsConfig) -> tuple[Reference, pl.DataFrame]:
    """Every allele of a simulated genome; its label tells a C whose next base is G from all
    others."""
    source = domain.open(simulated, "train")
    rows = source.variants
    bases = [
        source.reference.sequence(c)[p : p + 2].tolist()
        for c, p in rows.select("chrom", "pos").iter_rows()
    ]
    label = np.array([float(pair == [1, 2]) for pair in bases])
    return source.reference, rows.with_columns(label=pl.Series(label))


def test_kmers_tell_what_the_bases_around_a_site_tell(
    alleles: tuple[Reference, pl.DataFrame],
) -> None:
    reference, rows = alleles
    train, test = rows.filter(pl.col("outer") > 0), rows.filter(pl.col("outer") == 0)
    label = test["label"].to_numpy()
    told = kmer_floor(reference, train, test, classes=True)
    assert auroc(label, told) > 0.99 and told.min() >= 0 and told.max() <= 1
    assert auroc(label, kmer_floor(reference, train, test, classes=False)) > 0.99


def test_kmers_are_the_same_every_time_and_know_no_held_out_label(
    alleles: tuple[Reference, pl.DataFrame],
) -> None:
    reference, rows = alleles
    train, test = rows.filter(pl.col("outer") > 0), rows.filter(pl.col("outer") == 0)
    other = test.with_columns(label=1 - pl.col("label"))
    for classes in (True, False):
        once, again = (kmer_floor(reference, train, t, classes) for t in (test, other))
        assert np.array_equal(once, again)


def test_kmers_of_contig_ends_unknown_bases_and_events_have_a_number() -> None:
    reference = Reference(Genome.__new__(Genome), [])
    reference.sequence = lambda contig: np.array([0, UNKNOWN, 2, 3], dtype=np.uint8)
    rows = pl.DataFrame(
        {
            "chrom": ["c"] * 4,
            "pos": [0, 1, 2, 3],
            "alt": [1, 2, -1, 0],
            "label": [0.0, 1.0, 0.0, 1.0],
            "weight": [1.0] * 4,
        }
    )
    for classes in (True, False):
        assert np.isfinite(kmer_floor(reference, rows, rows, classes)).all()
    alike = rows.with_columns(label=pl.lit(1.0))
    assert kmer_floor(reference, alike, rows, classes=True).tolist() == [1.0] * 4


def test_the_untrained_network_is_the_same_every_time_and_leaves_other_draws_alone(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    source, task = domain.open(simulated, "train"), domain.task(simulated)
    fold = task.folds(source)[0]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tokenizer, module = untrained(task, source, fold.train, encoder)
    assert torch.equal(before, torch.get_rng_state()) and not module.training
    told = task.predict(module, source, tokenizer, fold.test)
    floor = task.floors(source, fold, encoder)["untrained"]
    assert floor["row"].equals(told["row"]) and floor["raw"].equals(told["raw"])
    assert floor["raw"].n_unique() > 1
