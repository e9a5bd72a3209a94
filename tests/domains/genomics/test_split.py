"""Folds: disjoint, whole groups, purged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.contract import Fold
from core.errors import ConfigError, TooFewLabelsError
from domains.genomics.data_config import SplitConfig
from domains.genomics.purge import Purge
from domains.genomics.split import make_folds, with_groups
from domains.genomics.transcript import Transcript


def _variants(contigs: int = 2, length: int = 600) -> pl.DataFrame:
    pos = np.tile(np.arange(length), contigs)
    chrom = np.repeat([f"c{i}" for i in range(contigs)], length)
    return pl.DataFrame(
        {
            "row": np.arange(len(pos)),
            "chrom": chrom,
            "pos": pos,
            "group_field": [f"x{p // 100}" for p in pos],
        }
    )


SPLITS = [
    SplitConfig(kind="blocks", block=100, folds=3, purge=7),
    SplitConfig(kind="info", field="EXON", folds=2, purge=7),
    SplitConfig(kind="contig", folds=2, purge=7),
]


@pytest.mark.parametrize("split", SPLITS, ids=lambda s: s.kind)
def test_folds_are_disjoint_purged_and_of_whole_groups(split: SplitConfig) -> None:
    variants = with_groups(_variants(5), split)
    folds = make_folds(variants, split, Purge(split.purge))
    assert [f.name for f in folds] == [*(f"fold{i}" for i in range(split.folds)), "all"]
    tested = pl.concat([f.test for f in folds])
    assert sorted(tested) == variants["row"].to_list()
    assert folds[-1].test.is_empty()
    by_row = {r["row"]: r for r in variants.to_dicts()}
    for fold in folds:
        parts = {n: [by_row[r] for r in getattr(fold, n)] for n in ("train", "validation", "test")}
        assert parts["train"] and parts["validation"]
        groups = {n: {r["group"] for r in rows} for n, rows in parts.items()}
        assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]
        assert not groups["validation"] & groups["test"]
        for near, far in (("train", "test"), ("validation", "test"), ("train", "validation")):
            taken = {(r["chrom"], r["pos"]) for r in parts[far]}
            for r in parts[near]:
                around = range(r["pos"] - split.purge, r["pos"] + split.purge + 1)
                assert not any((r["chrom"], p) in taken for p in around)


def test_block_fold_is_the_published_formula() -> None:
    split = SplitConfig(kind="blocks", block=150, folds=5)
    variants = with_groups(_variants(1, 3000), split)
    pos1 = variants["pos"].to_numpy() + 1
    assert (variants["outer"].to_numpy() == ((pos1 - 1) // 150) % 5).all()


def test_fewer_groups_than_folds_is_refused() -> None:
    split = SplitConfig(kind="contig", folds=3)
    with pytest.raises(TooFewLabelsError, match="2 groups"):
        make_folds(with_groups(_variants(2), split), split, Purge(split.purge))


def test_info_split_needs_its_field() -> None:
    with pytest.raises(ConfigError, match=r"data\.split"):
        SplitConfig(kind="info")


EXONS = SplitConfig(kind="info", field="EXON", folds=3, validation=0.4, purge=30, refit=True)


def _cut(strand: int) -> Transcript:
    """Codons begin at 100 in reading direction; introns of 1,000 bases cut one after its first
    base and one after its second."""
    spans = [(100, 170), (1170, 1240), (2240, 2310)]
    return Transcript("t", "c0", strand, spans, spans[::strand])


def _of_exons(transcript: Transcript) -> pl.DataFrame:
    """A label on every coding base and one on the third base of each intron; group is the exon."""
    exons = {f"x{i}": [*range(a, b), b + 2] for i, (a, b) in enumerate(transcript.exons)}
    pos = [p for bases in exons.values() for p in bases]
    group = [name for name, bases in exons.items() for _ in bases]
    told = {"row": range(len(pos)), "chrom": "c0", "pos": pos, "group_field": group}
    return with_groups(pl.DataFrame(told), EXONS)


def _partners(transcript: Transcript, variants: pl.DataFrame) -> dict[int, set[int]]:
    """Rows of the codon of each row, counted base by base."""
    row_at = dict(variants.select("pos", "row").iter_rows())
    coding = transcript.coding_positions().tolist()
    rows = [row_at[p] for p in coding]
    return {row: set(rows[i // 3 * 3 : i // 3 * 3 + 3]) for i, row in enumerate(rows)}


@pytest.mark.parametrize("strand", [1, -1])
def test_a_codon_that_an_intron_cuts_is_on_one_side_only(strand: int) -> None:
    transcript = _cut(strand)
    variants = _of_exons(transcript)
    partners = _partners(transcript, variants)
    cut = {p for row, rows in partners.items() for p in rows if max(rows) - min(rows) > 2}
    assert len(cut) == 6
    purge = Purge.of(variants, {"c0": [transcript]}, EXONS.purge)

    def across(fold: Fold) -> int:
        sides = ((fold.learned, fold.test), (fold.validation, fold.test))
        sides = (*sides, (fold.train, fold.validation))
        return sum(
            not partners.get(row, set()).isdisjoint(held)
            for rows, held in ((rows, set(held)) for rows, held in sides)
            for row in rows
        )

    folds = make_folds(variants, EXONS, purge)
    assert sum(across(fold) for fold in make_folds(variants, EXONS, Purge(EXONS.purge))) > 6
    assert not any(across(fold) for fold in folds)
    for fold in folds[:-1]:
        used = {*fold.learned, *fold.validation, *fold.test}
        lost = set(variants["row"]) - used
        assert lost and lost <= cut, "nothing but the rest of a cut codon goes"


def test_how_many_labels_are_left_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    transcript = _cut(1)
    variants = _of_exons(transcript)
    near = SplitConfig(kind="info", field="EXON", folds=3, validation=0.4, purge=998)
    purge = Purge.of(variants, {"c0": [transcript]}, near.purge)
    with caplog.at_level("INFO", logger="domains.genomics.split"):
        make_folds(variants, near, purge)
    facts = [getattr(record, "facts") for record in caplog.records]  # noqa: B009
    assert [f["fold"] for f in facts] == ["fold0", "fold1", "fold2", "all"]
    assert {k: v for k, v in facts[0].items() if k.endswith("_test")} == {
        "near_test": 1,
        "in_codon_of_test": 1,
    }


def _with_event(start: int, end: int) -> tuple[pl.DataFrame, int]:
    """A substitution at every base, row for row, and last an event."""
    single = _variants(1, 3000).with_columns(end=pl.lit(None, pl.Int64))
    event = {"row": len(single), "chrom": "c0", "pos": start, "group_field": "", "end": end}
    together = pl.concat([single, pl.DataFrame([event], schema=single.schema)])
    return together, event["row"]


BLOCKS = SplitConfig(kind="blocks", block=1000, folds=3, validation=0, purge=30)


@pytest.mark.parametrize(
    ("start", "end", "near"),
    [(961, 1042, True), (900, 970, False), (900, 971, True), (970, 970, True), (969, 969, False)],
)
def test_an_event_is_as_near_as_its_nearest_base(start: int, end: int, near: bool) -> None:
    variants, event = _with_event(start, end)
    folds = make_folds(with_groups(variants, BLOCKS), BLOCKS, Purge(BLOCKS.purge))
    assert (event in folds[1].train) == (not near)
    # Tested itself, it is as near to those that would be trained on.
    behind = {row for row in range(1000, 1100) if row - max(end - 1, start) <= BLOCKS.purge}
    assert behind.isdisjoint(folds[0].train)
    assert set(range(1000, 1100)) - behind - set(range(1030)) <= set(folds[0].train)


def test_an_event_closes_the_codons_that_it_changes() -> None:
    transcript = _cut(1)
    variants, event = _with_event(165, 170)
    variants = variants.filter(pl.col("pos") < 2000).with_columns(
        group_field=pl.when(pl.col("pos") < 1000).then(pl.lit("x0")).otherwise(pl.lit("x1"))
    )
    variants = variants.filter(~pl.col("pos").is_between(160, 999) | (pl.col("row") == event))
    split = SplitConfig(kind="info", field="EXON", folds=2, validation=0, purge=30)
    purge = Purge.of(variants, {"c0": [transcript]}, split.purge)
    folds = make_folds(with_groups(variants, split), split, purge)
    of_event, of_others = sorted(folds[:-1], key=lambda fold: event not in fold.test)
    assert {1170, 1171}.isdisjoint(of_event.train) and 1172 in of_event.train
    assert event not in of_others.train and 159 in of_others.train
