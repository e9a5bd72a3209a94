"""LS_SD: how far the trainings of one bundle lie apart, for every allele that has a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from core.bundle import load_bundle, restore
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from tests.domains.genomics.conftest import rebundled, run_score

REGION = {"saturate": "sim2:101-400"}


@pytest.fixture(scope="module")
def bundles(
    bundle: Path, simulated: GenomicsConfig, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Three bundles of one training each, and last the bundle of all three."""
    folder, kept = tmp_path_factory.mktemp("members"), load_bundle(bundle)
    task = domain.task(simulated)
    tokenizer, first = restore(kept, task)
    modules = [first]
    for seed in (1, 2):
        torch.manual_seed(seed)
        modules.append(task.module(tokenizer, kept.encoder))
    modules.append(first.ensemble(modules))
    return [
        rebundled(bundle, folder / f"{i}", weights=module.state_dict())
        for i, module in enumerate(modules)
    ]


def test_it_is_the_deviation_of_members_scored_alone_and_the_effect_their_mean(
    tmp_path: Path, bundles: list[Path], simulated: GenomicsConfig
) -> None:
    tables = []
    for i, path in enumerate(bundles):
        out = tmp_path / f"{i}.parquet"
        run_score(path, Path(str(simulated.data.fasta)), out, scoring=REGION)
        tables.append(pl.read_parquet(out))
    *alone, together = tables
    assert all("sd" not in table.columns for table in alone)
    each = np.stack([table["effect"].to_numpy() for table in alone])
    spread = together["sd"].to_numpy()
    assert spread.min() > 0 and together["sd"].null_count() == 0
    np.testing.assert_allclose(spread, each.std(axis=0, ddof=1), atol=1e-5)
    np.testing.assert_allclose(together["effect"].to_numpy(), each.mean(axis=0), atol=1e-5)


def test_a_vcf_has_it_for_scored_alleles_of_several_trainings_only(
    tmp_path: Path, bundles: list[Path], simulated: GenomicsConfig
) -> None:
    import pysam

    with pysam.FastaFile(str(simulated.data.fasta)) as genome:
        ref = genome.fetch("sim1", 99, 100)
    alts = [base for base in "ACGT" if base != ref]
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines.append(f"sim1\t100\t.\t{ref}\t{alts[0]},<DEL>,{alts[1]}\t.\t.\t.")
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")
    run_score(bundles[-1], tmp_path / "in.vcf", tmp_path / "three.vcf")
    with pysam.VariantFile(str(tmp_path / "three.vcf")) as variants:
        told = variants.header.info["LS_SD"]
        assert (told.number, told.type) == ("A", "Float")
        assert "Standard deviation of LS_EFFECT over the 3 trainings" in (told.description or "")
        info = next(iter(variants)).info
    spread, effect = info["LS_SD"], info["LS_EFFECT"]
    assert [v is None for v in spread] == [v is None for v in effect] == [False, True, False]
    # Scored anew by one training, the tag and its header line of before are gone too.
    run_score(bundles[0], tmp_path / "three.vcf", tmp_path / "one.vcf")
    assert "LS_SD" in (tmp_path / "three.vcf").read_text()
    assert "LS_SD" not in (tmp_path / "one.vcf").read_text()
