"""A network is told genes where it has learned from genes, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from core.bundle import load_bundle, restore
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import DifferenceConfig, GenomicsConfig
from domains.genomics.source import LabelledSource
from tests.domains.genomics.conftest import rebundled, run_score, trained_bundle

PLACES = range(100, 3900, 100)


def _bare(config: GenomicsConfig) -> GenomicsConfig:
    return replace(config, data=replace(config.data, annotation=None))


def _older(bundle: Path, path: Path) -> Path:
    """The bundle as a version wrote it that did not say whether genes were told."""
    tokenizer = dict(load_bundle(bundle).tokenizer)
    del tokenizer["annotated"]
    return rebundled(bundle, path, tokenizer=tokenizer)


@pytest.mark.parametrize("older", [False, True], ids=["this version", "older"])
def test_a_missing_annotation_is_refused_where_training_had_one(
    bundle: Path, simulated: GenomicsConfig, tmp_path: Path, older: bool
) -> None:
    bundle = _older(bundle, tmp_path / "older") if older else bundle
    variants, out = Path(str(simulated.data.variants)), tmp_path / "o.vcf"
    summary = run_score(bundle, variants, out, data={"annotation": None})
    assert summary["exit_code"] == 2 and not out.exists()
    assert summary["error"].startswith("data.annotation: found none, expected one, as in training")
    with pytest.raises(ConfigError, match=r"data\.annotation: found none"):
        _predicted(bundle, _bare(simulated))


@pytest.mark.parametrize("older", [False, True], ids=["this version", "older"])
def test_an_annotation_that_training_lacked_tells_consequences_and_changes_no_score(
    bare_bundle: Path, simulated: GenomicsConfig, tmp_path: Path, older: bool
) -> None:
    bundle = _older(bare_bundle, tmp_path / "older") if older else bare_bundle
    variants, genes = Path(str(simulated.data.variants)), {"annotation": simulated.data.annotation}
    run_score(bundle, variants, tmp_path / "bare.parquet")
    run_score(bundle, variants, tmp_path / "genes.parquet", data=genes)
    bare, told = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("bare", "genes"))
    assert bare["effect"].equals(told["effect"]) and bare["effect"].n_unique() > 100
    assert bare["csq"].null_count() == len(bare) > told["csq"].null_count()
    with_genes, without = (_predicted(bundle, c) for c in (simulated, _bare(simulated)))
    assert with_genes["raw"].equals(without["raw"])
    assert "consequence" in with_genes.columns and "consequence" not in without.columns


def test_events_are_not_read_with_genes_that_training_lacked(
    simulated: GenomicsConfig, encoder: Any, tmp_path: Path
) -> None:
    settings = DifferenceConfig(flank=16, longest=8, events=4, random=0)
    config = replace(_bare(simulated), head="difference", difference=settings)
    bundle = trained_bundle(config, encoder, tmp_path / "bundle")
    bases = Path(str(simulated.data.fasta)).read_text().split(">")[1].split("\n", 1)[1]
    bases = bases.replace("\n", "")
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    lines = (f"sim1\t{p}\t.\t{bases[p - 1 : p + 1]}\t{bases[p - 1]}\t.\t.\t.\n" for p in PLACES)
    (tmp_path / "in.vcf").write_text(header + "".join(lines))
    effects = []
    for data in ({}, {"annotation": simulated.data.annotation}):
        out = tmp_path / "out.parquet"
        assert run_score(bundle, tmp_path / "in.vcf", out, data=data)["scored"] == len(PLACES)
        effects.append(pl.read_parquet(out)["effect"].to_list())
    assert effects[0] == effects[1] and len(set(effects[0])) == len(PLACES)


@pytest.mark.parametrize("genes", [True, False])
def test_a_training_from_a_bundle_is_told_the_genes_of_its_own_data(
    bundle: Path, bare_bundle: Path, simulated: GenomicsConfig, genes: bool
) -> None:
    config = simulated if genes else _bare(simulated)
    source, task = domain.open(config, "train"), domain.task(config)
    assert isinstance(source, LabelledSource)
    begun = load_bundle(bare_bundle if genes else bundle)
    tokenizer, _ = task.take_over(begun, source, source.variants["row"])
    assert tokenizer.annotated == genes


def _predicted(bundle: Path, config: GenomicsConfig) -> pl.DataFrame:
    """What `pipelines.evaluate` compares with labels."""
    source, task = domain.open(config, "train"), domain.task(config)
    assert isinstance(source, LabelledSource)
    tokenizer, module = restore(load_bundle(bundle), task)
    return task.predict(module, source, tokenizer, source.variants["row"])
