"""The guide's commands, from simulated data or own files to scored ones, run as they stand."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl

from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData, SimulationConfig
from tests.domains.genomics.conftest import ROOT
from tests.test_docs import shell_blocks

# All in one process: importing torch takes longer than these trainings. Each names its own run, as
# commands of a shell do.
RUN = """
import importlib, json, os, sys
for module, *arguments in json.loads(sys.argv[1]):
    os.environ.pop("LONGSTRAND_RUN_ID", None)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
"""
SMALL = "model.dim=8 model.layers=1 model.heads=2 attention=window attention.radius=4"
SIMULATED = [f"domain.data.simulation.{x}" for x in ("contigs=4", "length=4000", "variants=1200")]
TRAINED = f"{SMALL} trainer.steps=3 domain.window=64 logger=none".split()


def _files(folder: Path) -> None:
    """genome.fa.gz, genes.gff3, labelled.vcf.gz (chr1-3), new.vcf.gz and patients.vcf.gz (chr4)."""
    import pysam

    data = GenomicsData(simulation=SimulationConfig(contigs=4, length=4000, variants=1200))
    made = folder / "made"
    domain.simulate(GenomicsConfig(data=data), made)
    for name in ("genome.fa", "genes.gff3"):
        (folder / name).write_text((made / name).read_text().replace("sim", "chr"))
    pysam.tabix_compress(str(folder / "genome.fa"), str(folder / "genome.fa.gz"))
    text = gzip.decompress((made / "variants.vcf.gz").read_bytes()).decode().replace("sim", "chr")
    lines = text.splitlines(keepends=True)
    for name, kept in (("labelled", "123"), ("new", "4"), ("patients", "4")):
        chosen = [x for x in lines if x.startswith("#") or x[3] in kept]
        (folder / f"{name}.vcf").write_text("".join(chosen))
        pysam.tabix_compress(str(folder / f"{name}.vcf"), str(folder / f"{name}.vcf.gz"))


def _commands() -> list[list[str]]:
    """Module and arguments of all commands."""
    text = (ROOT / "docs" / "genomics.md").read_text()
    blocks = "".join(shell_blocks(text)).replace("\\\n", " ")
    found = re.findall(r"^python -m (\S+) (.*)$", blocks, re.M)
    return [[module, *shlex.split(arguments)] for module, arguments in found]


def test_the_guide_leads_from_files_to_scored_ones(tmp_path: Path) -> None:
    _files(tmp_path)
    commands = _commands()
    kinds = [c[0].split(".")[1] for c in commands]
    trainings = ["train", "score", "train", "score", "train"]
    assert kinds == ["train", "simulate", "score", *trainings, "evaluate", "train", "score"]
    for command, kind in zip(commands, kinds, strict=True):
        if kind == "train":
            command += TRAINED
        if kind == "simulate" or (kind == "train" and not any("fasta=" in c for c in command)):
            command += SIMULATED
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, made, simulated, *summaries = [json.loads(line) for line in done.stdout.splitlines()]
    assert {s["status"] for s in (first, made, simulated, *summaries)} == {"done"}
    # The files that were simulated are those that the first training made for itself.
    assert simulated["scored"] == simulated["rows"] == 1200
    assert (tmp_path / "simulated/README.txt").is_file()
    assert summaries[1]["scored"] == summaries[1]["rows"] > 200
    assert (tmp_path / "scored.vcf.gz.tbi").is_file()
    assert summaries[3]["scored"] == summaries[1]["scored"]
    assert "LS_LLR=" in gzip.decompress((tmp_path / "zero_shot.vcf.gz").read_bytes()).decode()
    assert summaries[4]["init"]["taken"] > 10
    assert summaries[7]["scored"] == 3000
    predictions = pl.read_parquet(tmp_path / "runs/genomics/latest/predictions.parquet")
    assert "missense_variant" in predictions["consequence"].to_list()


def test_settings_that_the_guide_quotes_are_accepted_as_they_stand() -> None:
    from hydra import compose, initialize_config_dir

    from pipelines.cli import CONF
    from pipelines.schema import register_schemas

    text = (ROOT / "docs" / "genomics.md").read_text()
    given = re.findall(r"`'(\+domain\.data\.[^`]*)'`", text)
    assert len(given) == 2
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = compose("train", ["domain=genomics", *given]).domain.data
    assert data.contig_alias == {"NC_003070.9": "Chr1"}
    assert data.tracks == {"phylop": {"path": "phylop.bedgraph", "cap": 5.0}}
