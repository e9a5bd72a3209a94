"""The benchmark of variant effects: same rows for all, features as told, paired intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import variant_trees, variants
from benchmarks.paired import estimates
from benchmarks.variant_data import DATA, QUICK, opened
from core.errors import ConfigError
from domains.genomics.codon import AMINO_ACIDS, NO_AMINO_ACID
from domains.genomics.contig_name import ContigNames
from domains.genomics.figures import auroc, spearman
from tests.domains.genomics.conftest import genomics_data

__all__ = ["genomics_data"]
NAMES = ContigNames(("c",), {})


def test_a_quick_run_tells_every_model_on_the_same_rows(tmp_path: Path) -> None:
    variants.run(variants.Settings(quick=True, threads=1, out=str(tmp_path)))
    saved = json.loads((tmp_path / "variants.json").read_text())
    whole = [r for r in saved["rows"] if r["protocol"] == QUICK.name]
    pooled = {r["model"]: r for r in whole if r["metric"] == "spearman"}
    differences = {f"ours - {m}" for m in variants.BESIDE}
    assert set(variants.MODELS) | differences == set(pooled)
    for row in saved["rows"]:
        assert set(variants.COLUMNS) | set(variants.SPEEDS) == row.keys()
    difference = pooled["ours"]["value"] - pooled["trees"]["value"]
    assert pooled["ours - trees"]["value"] == pytest.approx(difference)
    assert pooled["ours"]["seconds_train"] > 0 and pooled["trees"]["per_second"] > 0
    assert pooled["ours"]["value"] != pooled["cnn"]["value"] and pooled["cnn"]["seconds_train"] > 0


def test_rows_that_a_run_does_not_measure_are_kept_with_their_commit(tmp_path: Path) -> None:
    rows = [
        {"data": "sars2", "protocol": "blocks5, missense_variant", "model": "ours"},
        {"data": "simulated", "protocol": "contig", "model": "trees", "commit": "older"},
        {"data": "simulated", "protocol": "contig, missense_variant", "model": "position_knn"},
    ]
    earlier = {"commit": "old", "rows": rows}
    (tmp_path / "variants.json").write_text(json.dumps(earlier))
    variants.run(variants.Settings(quick=True, threads=1, out=str(tmp_path), models="position_knn"))
    saved = json.loads((tmp_path / "variants.json").read_text())["rows"]
    assert [r.get("commit") for r in saved if r["model"] != "position_knn"] == ["old", "older"]
    assert all("commit" not in r for r in saved if r["model"] == "position_knn")


def test_the_convolutional_network_is_of_the_same_size_and_reaches_as_it_says() -> None:
    import torch

    from benchmarks.variant_cnn import ConvTask
    from core.attention import Window
    from core.model.encoder import EncoderConfig
    from domains.genomics.tile import score_positions

    _, source, task = opened(QUICK, 1)
    conv = ConvTask(task.config)
    encoder = EncoderConfig(dim=32, layers=4, heads=2, pattern=Window(16))
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    torch.manual_seed(0)
    module = conv.module(tokenizer, encoder)
    sizes = [
        sum(p.numel() for p in m.encoder.parameters())
        for m in (module, task.module(tokenizer, encoder))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)
    reach = module.reach()
    assert reach == 5 * (1 + 4 + 16 + 1) + 3 + 2
    at, sequence = np.array([1000]), source.reference.sequence("sim1")
    before = score_positions(module, source.reference, "sim1", at, 400)
    for place in (1000 - reach - 1, 1000 + reach + 1):
        sequence[place] = (sequence[place] + 1) % 4
    after = score_positions(module, source.reference, "sim1", at, 400)
    np.testing.assert_allclose(after, before, atol=1e-6)
    sequence[1000 + 40] = (sequence[1000 + 40] + 1) % 4
    assert not np.allclose(score_positions(module, source.reference, "sim1", at, 400), after)


def _naive_coding(sequence: str, start: int, pos: int, alt: str) -> list[float]:
    """Place, amino acids before and after, and those near, of a plus-strand gene."""
    from Bio.Seq import Seq

    protein = str(Seq(sequence[start:]).translate())
    at, place = divmod(pos - start, 3)
    codon = list(sequence[start + 3 * at : start + 3 * at + 3])
    codon[place] = alt
    after = str(Seq("".join(codon)).translate())
    near = [AMINO_ACIDS.index(protein[at + d]) for d in variant_trees.CODONS_NEAR]
    return [place, AMINO_ACIDS.index(protein[at]), AMINO_ACIDS.index(after), *near]


@pytest.mark.parametrize("minus", [False, True])
def test_features_of_the_trees_are_those_of_a_naive_twin(minus: bool) -> None:
    from domains.genomics.contig import Genome
    from domains.genomics.source import Reference
    from domains.genomics.transcript import Transcript

    draw = np.random.default_rng(0)
    codes = draw.integers(0, 4, 96)
    turned = 3 - codes[::-1] if minus else codes
    genome = Genome(Path("none.fa"), {"c": turned.astype(np.uint8)}, NAMES, "")
    strand = -1 if minus else 1
    reference = Reference(genome, [Transcript("t", "c", strand, [(0, 96)], [(0, 96)])])
    pos, alt = draw.integers(9, 87, 40), draw.integers(0, 4, 40)
    frame = pl.DataFrame(
        {
            "chrom": ["c"] * 40,
            "pos": 95 - pos if minus else pos,
            "ref": 3 - codes[pos] if minus else codes[pos],
            "alt": 3 - alt if minus else alt,
        }
    )
    found = variant_trees.coding_features(reference, frame)[:, [0, 1, 2, -4, -3, -2, -1]]
    text = "".join("ACGT"[c] for c in codes)
    expected = [_naive_coding(text, 0, p, "ACGT"[a]) for p, a in zip(pos, alt, strict=True)]
    assert found.tolist() == expected
    bases = variant_trees.base_features(reference, frame, 2)
    p = frame["pos"].to_numpy()
    near = np.stack([turned[p + d] for d in (-2, -1, 1, 2)], axis=1)
    assert bases.tolist() == np.column_stack([frame["ref"], frame["alt"], near]).tolist()
    border = variant_trees.border_features(reference, frame)[:, 0]
    assert border.tolist() == [min(x + 0.5, 95.5 - x) for x in p]


def test_features_of_the_trees_say_where_there_is_no_codon() -> None:
    from domains.genomics.contig import UNKNOWN, Genome
    from domains.genomics.source import Reference

    genome = Genome(Path("none.fa"), {"c": np.zeros(4, dtype=np.uint8)}, NAMES, "")
    reference = Reference(genome, [])
    frame = pl.DataFrame({"chrom": ["c"], "pos": [0], "ref": [0], "alt": [1]})
    assert (variant_trees.coding_features(reference, frame) == -1).all()
    exchange = variant_trees.exchange_features(reference, frame)
    assert exchange.tolist() == [[NO_AMINO_ACID, NO_AMINO_ACID, 0]]
    near = variant_trees.base_features(reference, frame, 2)
    assert near.tolist() == [[0, 1, UNKNOWN, UNKNOWN, 0, 0]]


def test_the_difference_of_two_models_is_drawn_from_the_same_groups() -> None:
    draw = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 30)
    label = draw.normal(size=360) + draw.normal(size=12)[group]
    a = label + draw.normal(size=360) * np.where(group < 6, 0.2, 3)
    told = estimates(label, group, {"a": a, "b": a.copy()}, spearman, (("a", "b"),))
    same = told["a - b"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert told["a"].low < told["a"].value < told["a"].high
    worse = estimates(label, group, {"a": a, "b": -a}, spearman, (("a", "b"),))["a - b"]
    assert 0 < worse.low < worse.value


def test_a_draw_of_one_class_is_left_out_of_the_interval() -> None:
    label, group = np.array([1.0, 1, 0, 0, 1, 0]), np.array([0, 0, 1, 1, 2, 2])
    found = estimates(label, group, {"a": label}, auroc)["a"]
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_predictions_of_other_folds_are_refused(tmp_path: Path) -> None:
    from benchmarks.variant_models import hold, ours

    held = hold(QUICK, 1)
    path = tmp_path / "predictions.parquet"
    scores = held.rows.select("row", pl.lit("fold0").alias("fold"), pl.col("label").alias("raw"))
    scores.write_parquet(path)
    with pytest.raises(ConfigError, match="other held-out rows or folds"):
        ours(held, str(path))


def test_predictions_are_of_one_protocol() -> None:
    with pytest.raises(ConfigError, match="a file for 4 protocols"):
        variants.run(variants.Settings(predictions="x.parquet"))


@pytest.mark.parametrize(
    ("name", "alleles", "folds", "groups"),
    [
        ("blocks5", 54_917, 5, 20),
        ("contiguous5", 54_917, 5, 20),
        ("exon", 3_893, 13, 13),
        ("exon+phylop", 3_893, 13, 13),
    ],
)
def test_folds_hold_out_the_published_rows(
    genomics_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    alleles: int,
    folds: int,
    groups: int,
) -> None:
    monkeypatch.setenv("LONGSTRAND_DATA", str(genomics_data.parent))
    protocol = next(p for p in DATA if p.name == name)
    _, source, task = opened(protocol, 1)
    tested = [f.test for f in task.folds(source) if len(f.test)]
    assert (len(tested), source.variants["group"].n_unique()) == (folds, groups)
    assert sorted(pl.concat(tested)) == source.variants["row"].to_list()
    assert len(source.variants) == alleles
    if protocol.data == "sars2":
        block = pl.col("pos") // 1500
        expected = block % 5 if name == "blocks5" else block * 5 // 20
        assert (
            source.variants.select(expected)["pos"].to_list() == source.variants["outer"].to_list()
        )
    assert len(source.reference.tracks) == (name == "exon+phylop")
