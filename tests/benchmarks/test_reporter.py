"""The benchmark of reporter assays: its events, what its figure and its floors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import reporter
from benchmarks.reporter import Settings, deletions_by, figures, trained
from benchmarks.reporter_data import read
from benchmarks.reporter_floors import by_element, fitted, kmer_change, mean_over, measured
from domains.genomics.contig import encode

ELEMENTS = {"a": "GATTACAACCGTGGGCATTC", "b": "CCNTTGACGGATCAAAGTCT"}


def _events(*told: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(told, schema=["chrom", "start", "end", "inserted"], orient="row")


def _assays(folder: Path) -> Path:
    """Every substitution and every spelling of every deletion of two elements."""
    fasta = "".join(f">{name}\n{letters}\n" for name, letters in ELEMENTS.items())
    (folder / "elements_hg38.fa").write_text(fasta)
    info = {"EXP": "String", "COEF": "Float", "TAGS": "Integer"}
    lines = ["##fileformat=VCFv4.3", *(f"##contig=<ID={name},length=20>" for name in ELEMENTS)]
    lines += [f'##INFO=<ID={k},Number=1,Type={v},Description="">' for k, v in info.items()]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for name, letters in ELEMENTS.items():
        for i, ref in enumerate(letters):
            alleles = [(ref, alt) for alt in "ACGT" if alt != ref]
            alleles += [(letters[i : i + 2], ref)] if i < 19 else []
            for number, allele in enumerate(alleles):
                told = "\t".join([name, str(i + 1), ".", *allele, ".", "."])
                lines.append(f"{told}\tEXP=X;COEF={(i % 7) - number};TAGS={10 + i}")
    (folder / "satmut.elements.vcf.gz").write_text("\n".join(lines) + "\n")
    return folder


def test_spellings_of_a_deletion_are_one_event_that_has_all_their_tags(tmp_path: Path) -> None:
    rows, _ = read(_assays(tmp_path))
    single, deleted = (rows.filter(pl.col("kind") == k) for k in ("substitution", "deletion"))
    assert len(single) == (20 + 19) * 3 and set(single["spellings"]) == {1}
    # 19 spellings an element: GATTACAACCGTGGGCATTC has two each of TT, AA, CC and TT, three G.
    own = deleted.filter(pl.col("chrom") == "a")
    assert own["spellings"].sum() == 19 and len(own) == 19 - 6
    run = own.filter(pl.col("end") - pl.col("start") == 3).row(0, named=True)
    assert (run["start"], run["end"], run["inserted"], run["spellings"]) == (12, 15, "GG", 3)
    # Nothing is told of the N of the other one, and no deletion holds on to it.
    assert set(deleted.filter(pl.col("chrom") == "b")["start"]).isdisjoint([2, 3])
    assert (run["pos"], run["ref"], run["alt"]) == (11, "TG", "T")
    coef, tags = np.array([i % 7 - 3 for i in (11, 12, 13)]), np.array([21, 22, 23])
    assert run["tags"] == 66 and run["coef"] == pytest.approx((coef * tags).sum() / 66)


def test_labels_are_in_shares_of_the_spread_of_substitutions(tmp_path: Path) -> None:
    rows, _ = read(_assays(tmp_path))
    own = rows.filter(pl.col("chrom") == "a")
    spread = own.filter(pl.col("kind") == "substitution")["coef"].to_numpy().std(ddof=1)
    np.testing.assert_allclose(own["label"] * spread, own["coef"], atol=1e-12)


def test_a_network_of_substitutions_tells_deletions_of_elements_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [text.replace("folds: 21", "folds: 2") for text in reporter.SETTINGS]
    monkeypatch.setattr(reporter, "SETTINGS", [t.replace("6, 7, 8]", "6]") for t in few])
    rows, _ = read(_assays(tmp_path))
    both = trained(rows, tmp_path, Settings(steps=2), tmp_path / "both")
    told = pl.read_parquet(both.run / "predictions.parquet").sort("row")
    deleted = (rows["kind"] == "deletion").to_numpy()
    assert np.ptp(told["difference"].to_numpy()[deleted]) > 0
    again = deletions_by(both, tmp_path / "both" / "labels.tsv")
    np.testing.assert_array_equal(again, told["difference"].to_numpy()[deleted])


def test_the_figure_is_a_mean_over_elements_whatever_their_size() -> None:
    rows = pl.DataFrame({"chrom": ["a"] * 2 + ["b"] * 20, "coef": [0.0, 1.0, *range(20)]})
    score = np.concatenate([[0.0, 1.0], -np.arange(20.0)])
    assert mean_over(by_element(rows, score))["value"] == pytest.approx(0.0)
    assert mean_over(by_element(rows, np.zeros(22)))["value"] == 0.0


def test_a_pair_is_the_mean_of_differences_and_names_what_differs() -> None:
    rows = pl.DataFrame({"chrom": list("aabb"), "coef": [0.0, 1.0] * 2, "kind": ["deletion"] * 4})
    right, wrong = np.array([0.0, 1.0] * 2), np.array([0.0, 1.0, 1.0, 0.0])
    scores = {("ours", "both"): right, ("ours", "substitution"): wrong, ("ridge", "both"): wrong}
    pairs = ((("ours", "both"), ("ours", "substitution")), (("ours", "both"), ("ridge", "both")))
    told = figures(rows, scores, pairs, {"both": 2.0, "substitution": 1.0})[3:]
    assert [(r["model"], r["learned"]) for r in told] == [
        ("ours", "both - substitution"),
        ("ours - ridge", "both"),
    ]
    assert [r["value"] for r in told] == pytest.approx([1.0, 1.0])


def test_a_change_of_kmers_is_the_same_on_either_strand() -> None:
    sequences = {"a": encode("ACGGTN"), "b": encode("NACCGT")}
    change = kmer_change(_events(("a", 2, 3, "T"), ("b", 3, 4, "A")), sequences, 2).toarray()
    np.testing.assert_array_equal(change[0], change[1])
    # CG and GG (CC) go, CT (AG) and TG (CA) come.
    assert {i: int(change[0, i]) for i in np.flatnonzero(change[0])} == {6: -1, 5: -1, 2: 1, 4: 1}
    # Of GG one G goes: GG (CC) alone is lost.
    change = kmer_change(_events(("a", 2, 4, "G"), ("b", 2, 4, "C")), sequences, 2).toarray()
    np.testing.assert_array_equal(change[0], change[1])
    assert {i: int(change[0, i]) for i in np.flatnonzero(change[0])} == {5: -1}


def test_a_floor_has_not_seen_the_element_that_it_tells() -> None:
    rows = pl.DataFrame({"chrom": ["a"] * 4 + ["b"] * 4, "label": [0.0] * 4 + [5.0] * 4})
    told = fitted(rows, np.ones((8, 1)), "label", 1.0)
    np.testing.assert_allclose(told, rows["label"].to_numpy()[::-1])


def test_a_floor_learns_from_one_kind_where_it_says_so() -> None:
    kind = ["deletion", "substitution"] * 4
    rows = pl.DataFrame({"chrom": ["a"] * 4 + ["b"] * 4, "label": [7.0, 1.0] * 4, "kind": kind})
    np.testing.assert_allclose(fitted(rows, np.ones((8, 1)), "label", 1.0, "substitution"), 1.0)


def test_what_is_measured_of_a_deletion_is_the_mean_over_its_bases() -> None:
    told = [("a", 3, 5, "G", "deletion", 9.0), ("b", 3, 4, "", "deletion", 9.0)]
    told += [("a", 3, 4, "A", "substitution", 1.0), ("a", 4, 5, "A", "substitution", 3.0)]
    told += [("a", 5, 6, "A", "substitution", 50.0), ("b", 3, 4, "A", "substitution", -1.0)]
    names = ["chrom", "start", "end", "inserted", "kind", "label"]
    np.testing.assert_allclose(measured(pl.DataFrame(told, schema=names, orient="row")), [2.0, -1])
