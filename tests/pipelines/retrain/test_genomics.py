"""A domain without time: new labels of new stretches of the genome judge the challenger."""

from __future__ import annotations

from pathlib import Path

import pysam

from core.bundle import load_bundle
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData, SimulationConfig
from pipelines.registry import Registry
from pipelines.registry.folder import FolderStore
from tests.pipelines import commands


def test_effects_are_retrained_when_new_stretches_are_labelled(tmp_path: Path) -> None:
    simulation = SimulationConfig(contigs=2, length=4000, variants=1500)
    domain.simulate(GenomicsConfig(data=GenomicsData(simulation=simulation)), tmp_path / "sim")
    table = tmp_path / "labels.tsv"

    def retrain(day: str, contigs: set[str], steps: int) -> commands.Outcome:
        _deliver(tmp_path / "sim", table, contigs)
        return commands.start(
            tmp_path / "commands",
            "retrain",
            "domain=genomics",
            f"as_of={day}",
            "domain.data.source=files",
            f"domain.data.fasta={tmp_path}/sim/genome.fa",
            f"domain.data.annotation={tmp_path}/sim/genes.gff3",
            f"domain.data.variants={table}",
            "domain.data.split.kind=blocks",
            "domain.data.split.block=250",
            "domain.data.split.folds=2",
            "domain.window=64",
            "model.dim=16",
            "model.layers=1",
            "model.heads=2",
            "attention.radius=8",
            f"trainer.steps={steps}",
            "logger=none",
            "threads=1",
            f"runs={tmp_path}/runs",
            f"registry.root={tmp_path}/models",
        ).outcome()

    names = [record.split("\t")[0] for record in (tmp_path / "sim/genome.fa.fai").open()]
    first = retrain("2024-01-01", set(names[:1]), 2)
    assert (first.code, first.summary["promoted"]) == (0, True), first.stderr

    better = retrain("2024-02-01", set(names), 40)
    assert (better.code, better.summary["promoted"]) == (0, True), better.stderr
    registry = Registry(FolderStore(tmp_path / "models"))
    champion = load_bundle(registry.resolve("effect@champion").path)
    assert {i.split(":")[0] for i in champion.label_intervals} == set(names)
    assert {f["field"] for f in champion.reference} >= {"substitution", "score", "label"}


def _deliver(simulated: Path, table: Path, contigs: set[str]) -> None:
    with pysam.VariantFile(str(simulated / "variants.vcf.gz")) as records:
        rows = [
            f"{r.chrom}\t{r.pos}\t{r.ref}\t{(r.alts or ('',))[0]}\t{r.info['EFFECT']}"
            for r in records
            if r.chrom in contigs
        ]
    table.write_text("\n".join(["chrom\tpos\tref\talt\tEFFECT", *rows]) + "\n")
