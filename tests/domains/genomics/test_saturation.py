"""Every substitution of a region is scored, in pieces that do not change the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pybigtools
import pytest

from core.errors import DataContractError
from domains.genomics import bigwig, variant_file
from domains.genomics.bigwig import write_bigwig
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import Genome
from domains.genomics.contig_name import ContigNames
from tests.domains.genomics.conftest import run_score


def _saturate(
    bundle: Path, config: GenomicsConfig, out: Path, region: str, fasta: Path | None = None
) -> dict[str, Any]:
    path = Path(str(config.data.fasta)) if fasta is None else fasta
    return run_score(bundle, path, out, scoring={"saturate": region})


def test_a_region_has_three_alternatives_a_base_and_its_pieces_agree(
    tmp_path: Path,
    bundle: Path,
    simulated: GenomicsConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = "sim2:101-400"
    summary = _saturate(bundle, simulated, tmp_path / "one.parquet", region)
    assert (summary["rows"], summary["scored"]) == (900, 900)
    monkeypatch.setattr(variant_file, "RECORDS_A_PARTITION", 70)
    assert _saturate(bundle, simulated, tmp_path / "two.parquet", region)["partitions"] == 5
    one, two = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in ("one", "two"))
    assert one.drop("effect").equals(two.drop("effect"))
    assert one["effect"].to_list() == pytest.approx(two["effect"].to_list(), abs=1e-5)
    assert one["pos"].unique().sort().to_list() == list(range(101, 401))
    assert one.group_by("pos").agg(pl.col("alt").n_unique())["alt"].unique().to_list() == [3]
    assert one["warning"].null_count() == 900 and one["consequence"].null_count() == 0


def test_a_bigwig_has_the_mean_of_the_alternatives_of_every_base(
    tmp_path: Path,
    bundle: Path,
    simulated: GenomicsConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(variant_file, "RECORDS_A_PARTITION", 3000)
    tables = []
    for region in ("sim2:101-400", "sim1"):
        _saturate(bundle, simulated, tmp_path / "one.parquet", region)
        tables.append(pl.read_parquet(tmp_path / "one.parquet"))
    summary = _saturate(bundle, simulated, tmp_path / "all.bw", "all")
    track = pybigtools.open(str(tmp_path / "all.bw"))
    lengths = track.chroms()
    assert list(lengths) == sorted(lengths) and len(lengths) > 1
    assert summary["scored"] == 3 * track.info()["summary"]["basesCovered"]
    for table in tables:
        means = table.group_by("pos").agg(pl.col("effect").mean()).sort("pos")
        found = track.values(table["chrom"][0], fillna=None)[means["pos"].to_numpy() - 1]
        assert found == pytest.approx(means["effect"].to_numpy(), abs=1e-5)
    assert [p.name for p in tmp_path.glob(".all*")] == []


def test_a_bigwig_is_of_a_saturated_region(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig
) -> None:
    refused = run_score(bundle, Path(str(simulated.data.variants)), tmp_path / "some.bw")
    assert refused["exit_code"] == 2 and "one number a base" in refused["error"]


def test_what_fails_while_a_bigwig_is_written_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any) -> Any:
        yield "a", 0, 1, 1.0
        raise OSError("no space left")

    monkeypatch.setattr(bigwig._Kept, "rows", broken)
    frame = pl.DataFrame({"chrom": ["a"], "pos": [1], "effect": [1.0], "reason": ["SCORED"]})
    genome = Genome(tmp_path, {"a": np.zeros(4, np.uint8)}, ContigNames(("a",), {}), "")
    unscored = frame.with_columns(effect=pl.lit(None, pl.Float64))
    with pytest.raises(DataContractError, match="no base with a score"):
        write_bigwig(iter([unscored]), genome, tmp_path / "a.bw", "effect")
    with pytest.raises(OSError, match="no space left"):
        write_bigwig(iter([frame]), genome, tmp_path / "a.bw", "effect")
    assert not (tmp_path / "a.bw").exists()


def test_saturation_scores_a_variant_as_its_own_vcf_does(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig
) -> None:
    import pysam

    _saturate(bundle, simulated, tmp_path / "all.vcf.gz", "sim1")
    run_score(bundle, Path(str(simulated.data.variants)), tmp_path / "some.vcf.gz")
    everything = {}
    with pysam.VariantFile(str(tmp_path / "all.vcf.gz")) as variants:
        assert variants.header.contigs["sim1"].length == 4000
        for r in variants.fetch("sim1"):  # the output has an index
            for alt, effect in zip(r.alts or (), r.info["LS_EFFECT"], strict=True):
                everything[r.pos, alt] = effect
    with pysam.VariantFile(str(tmp_path / "some.vcf.gz")) as variants:
        some = {(r.pos, r.alts[0]): r.info["LS_EFFECT"][0] for r in variants if r.chrom == "sim1"}
    assert len(everything) == 12_000 and len(some) > 500
    assert all(everything[key] == pytest.approx(e, abs=1e-4) for key, e in some.items())


def test_unknown_bases_have_no_substitution(
    tmp_path: Path, bare_bundle: Path, simulated: GenomicsConfig
) -> None:
    (tmp_path / "g.fa").write_text(">sim1\nACNRT\n>sim2\nNN\n")
    scoring = {"saturate": "all"}
    out = tmp_path / "o.parquet"
    summary = run_score(bare_bundle, tmp_path / "g.fa", out, scoring=scoring)
    assert summary["rows"] == summary["scored"] == 9, summary
    assert pl.read_parquet(out)["pos"].unique().to_list() == [1, 2, 5]


@pytest.mark.parametrize(
    ("region", "told"),
    [
        ("sim9", "expected all, a contig of"),
        ("sim1:0-5", "expected 1 <= start <= end <= 4000"),
        ("sim1:5-4", "expected 1 <= start <= end <= 4000"),
        ("sim1:1-4001", "expected 1 <= start <= end <= 4000"),
    ],
)
def test_a_region_that_is_not_there_is_refused(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig, region: str, told: str
) -> None:
    summary = _saturate(bundle, simulated, tmp_path / "o.vcf", region)
    assert summary["exit_code"] == 2 and told in summary["error"]


def test_a_fasta_as_input_says_how_to_saturate(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig
) -> None:
    summary = run_score(bundle, Path(str(simulated.data.fasta)), tmp_path / "o.vcf")
    assert summary["exit_code"] == 2 and "config.scoring.saturate=all" in summary["error"]
