"""Effects have no time: what judges a challenger is groups of labels that nobody has seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.errors import TooFewLabelsError
from domains.genomics.data_config import SplitConfig
from domains.genomics.purge import Purge
from domains.genomics.retraining import challenge, effect_yardstick
from domains.genomics.split import with_groups
from domains.genomics.transcript import Transcript

SPLIT = SplitConfig(kind="blocks", block=100, folds=3, validation=0.2, purge=5)


def _variants(blocks: int) -> pl.DataFrame:
    pos = np.arange(0, blocks * 100, 4)
    bare = pl.DataFrame(
        {"row": np.arange(len(pos)), "chrom": "chr1", "pos": pos, "group_field": None}
    )
    return with_groups(bare, SPLIT)


def test_half_of_the_new_groups_judge_and_the_others_train() -> None:
    variants = _variants(10)
    seen = variants.filter(pl.col("pos") < 600)["row"]
    found = challenge(variants, seen, SPLIT, Purge(SPLIT.purge))
    group = dict(variants.select("row", "group").iter_rows())
    tested = {group[r] for r in found.fold.test}
    trained = {group[r] for r in [*found.fold.train, *found.fold.validation]}
    new = {group[r] for r in found.fresh}
    assert new == {"chr1:6", "chr1:7", "chr1:8", "chr1:9"}
    assert len(tested) == 2
    assert tested < new
    assert new - tested < trained
    assert not tested & trained


def test_no_label_near_those_that_the_champion_has_seen_judges() -> None:
    variants = _variants(8)
    found = challenge(
        variants, variants.filter(pl.col("pos") < 600)["row"], SPLIT, Purge(SPLIT.purge)
    )
    pos = variants.filter(pl.col("row").is_in(found.fold.test.implode()))["pos"]
    assert pos.min() - 596 > SPLIT.purge


def test_no_label_of_a_codon_that_the_champion_has_seen_judges() -> None:
    variants = _variants(8)
    # Base 596 is the last one before an intron of 151 bases; the rest of its codon is 748 and 749.
    cut = Transcript("t", "chr1", 1, [(596, 597), (748, 750)], [(596, 597), (748, 750)])
    purge = Purge.of(variants, {"chr1": [cut]}, SPLIT.purge)
    seen = variants.filter(pl.col("pos") < 600)["row"]
    (row,) = variants.filter(pl.col("pos") == 748)["row"]
    assert row in challenge(variants, seen, SPLIT, Purge(SPLIT.purge)).fold.test
    assert row not in challenge(variants, seen, SPLIT, purge).fold.test


def test_without_a_champion_an_outer_fold_is_held_out() -> None:
    variants = _variants(9)
    found = challenge(variants, variants["row"].clear(), SPLIT, Purge(SPLIT.purge))
    assert found.fold.name == "fold0"
    assert found.fresh.is_empty()


def test_one_new_group_is_too_few() -> None:
    variants = _variants(8)
    with pytest.raises(TooFewLabelsError, match="found 1 groups of labels"):
        challenge(variants, variants.filter(pl.col("pos") < 700)["row"], SPLIT, Purge(SPLIT.purge))


def test_the_yardstick_counts_rows_by_their_weight() -> None:
    predictions = pl.DataFrame(
        {
            "label": [0.0, 1.0, 2.0, 3.0],
            "score": [0.0, 1.0, 2.0, -5.0],
            "group": ["a", "a", "b", "b"],
            "ref": ["A", "A", "C", "C"],
            "alt": ["G", "C", "T", "A"],
        }
    )
    yardstick = effect_yardstick(predictions, "regression")
    figure = yardstick.figures["spearman"]
    assert figure(np.array([1.0, 1.0, 1.0, 0.0])) == 1.0
    assert figure(np.ones(4)) < 1.0
    assert yardstick.groups[0] == yardstick.groups[1] != yardstick.groups[2]
    assert yardstick.slices["transitions"].tolist() == [True, False, True, False]
