"""Variants a second: from VCF to VCF, and of the network at three densities of variants.

    python -m benchmarks.variants_speed [repeats=5] [threads=0] [quick=true] [out=DIR]

`end_to_end` scores all 87,885 variants of SARS-CoV-2 by a command of its own, start and imports
counted; `peak_mb` is of all its processes. `tiles` is the network alone, with its windows, where
every base has its three substitutions (sars2), at the natural variants of a yeast chromosome, and
at the same thinned to one in 1,000 bases; `centred` is a forward for each of the last alone.
`per_second` counts alleles, `bases_per_second` the bases that pass the network. The model has the
size and the members of experiment=sars2 and is untrained, because weights take no time. All runs of
a repeat take turns, and figures are medians. Takes five minutes on two quiet cores; needs Linux.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.measure import interleaved
from benchmarks.processes import run_measured
from benchmarks.results import folder, machine, start, table, write
from benchmarks.scale_jobs import ROOT, Scoring, untrained
from benchmarks.variant_data import DATA, QUICK, opened
from core.errors import LongstrandError
from domains.genomics import domain
from domains.genomics.data_config import GenomicsData
from domains.genomics.source import LabelledSource, Reference, open_reference
from domains.genomics.tile import score_positions, tiles_of

if TYPE_CHECKING:
    from domains.genomics.model import EffectEnsemble

COLUMNS = ("metric", "data", "one_in", "alleles", "seconds", "per_second", "bases_per_second")
THIN = 1000  # bases between two variants of a sparse file
CHROMOSOME = "VIII"  # one in 46, as in the whole genome
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    repeats: int = 5
    threads: int = 0
    quick: bool = False
    out: str = ""


@dataclass(frozen=True)
class Stretch:
    """Variants of one contig: sorted sites, and how many alleles they have."""

    data: str
    reference: Reference
    contig: str
    sites: np.ndarray
    alleles: int

    @property
    def one_in(self) -> float:
        """Bases a site."""
        return len(self.reference.sequence(self.contig)) / len(self.sites)


@dataclass(frozen=True)
class Network:
    """An untrained network, and the longest window it is given."""

    module: EffectEnsemble
    window: int

    def run(self, stretch: Stretch, sites: np.ndarray) -> None:
        score_positions(self.module, stretch.reference, stretch.contig, sites, self.window)

    def bases(self, stretch: Stretch) -> int:
        """That pass the network in the tiles of a stretch."""
        length = len(stretch.reference.sequence(stretch.contig))
        tiles = tiles_of(self.module, stretch.sites, length, self.window)
        return sum(tile.end - tile.start for tile in tiles)


def saturated(data: str, reference: Reference) -> Stretch:
    """Every substitution of the first contig."""
    contig, sequence = next(iter(reference.genome.contigs.items()))
    return Stretch(data, reference, contig, np.arange(len(sequence)), 3 * len(sequence))


def natural(data: str, reference: Reference, contig: str, path: Path) -> Stretch:
    """The substitutions of a contig that a VCF has."""
    import pysam

    with pysam.VariantFile(str(path)) as variants:
        found = {
            (record.start, alt)
            for record in variants.fetch(contig)
            for alt in record.alts or ()
            if len(record.ref or "") == len(alt) == 1
        }
    sites = np.unique([start for start, _ in found])
    return Stretch(data, reference, contig, sites, len(found))


def thinned(stretch: Stretch) -> Stretch:
    """The first variant at a time that is at least `THIN` bases after the one before."""
    kept = list[int]()
    for site in stretch.sites.tolist():
        if not kept or site - kept[-1] >= THIN:
            kept.append(site)
    name = f"{stretch.data}, thinned"
    return Stretch(name, stretch.reference, stretch.contig, np.array(kept), len(kept))


def stretches(source: LabelledSource, quick: bool) -> list[Stretch]:
    """Dense to sparse."""
    dense = saturated("simulated" if quick else "sars2", source.reference)
    if quick:
        path = Path(str(source.config.data.variants))
        some = natural("simulated", source.reference, dense.contig, path)
        return [dense, some, thinned(some)]
    held = Path(os.environ.get("LONGSTRAND_DATA", ROOT.parent / "shared/data")) / "genomics/yeast"
    name = "Saccharomyces_cerevisiae.R64-1-1"
    fasta, genes = f"{held}/{name}.dna.primary_assembly.fa.gz", f"{held}/{name}.109.gtf.gz"
    yeast = open_reference(GenomicsData(source="files", fasta=fasta, annotation=genes))
    some = natural("yeast", yeast, CHROMOSOME, held / "saccharomyces_cerevisiae.vcf.gz")
    return [dense, some, thinned(some)]


def network_rows(network: Network, found: list[Stretch], repeats: int) -> Iterator[Row]:
    """A row a stretch, and one of centred windows on the sparsest."""
    sparse = found[-1]

    def alone() -> None:
        for site in sparse.sites:
            network.run(sparse, np.array([site]))

    functions: dict[str, Callable[[], object]] = {
        f"tiles {i}": lambda s=s: network.run(s, s.sites) for i, s in enumerate(found)
    }
    seconds = interleaved({**functions, "centred": alone}, repeats)
    for (name, runs), stretch in zip(seconds.items(), [*found, sparse], strict=True):
        middle = statistics.median(runs)
        yield {
            "metric": name.split()[0],
            "data": stretch.data,
            "one_in": stretch.one_in,
            "alleles": stretch.alleles,
            "seconds": middle,
            "per_second": stretch.alleles / middle,
            # A tile of one site is its centred window.
            "bases_per_second": network.bases(stretch) / middle,
            "all_seconds": runs,
        }


def end_to_end(job: Scoring, stretch: Stretch, threads: int, repeats: int) -> Row:
    """Raises LongstrandError where the command fails or leaves a variant without a score."""
    output = job.bundle.parent / f"scored{job.suffix}"
    given = [f"bundle={job.bundle}", f"input={job.input}", f"output={output}"]
    command = [sys.executable, "-m", "pipelines.score", *given, f"threads={threads}"]
    runs = [run_measured(command, ROOT) for _ in range(repeats)]
    told = json.loads(runs[0].last_line)
    if told["scored"] != told["rows"]:
        raise LongstrandError(f"{job.input}: scored {told['scored']} of {told['rows']} alleles")
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "metric": "end_to_end",
        "data": stretch.data,
        "one_in": None,
        "alleles": told["rows"],
        "seconds": seconds,
        "per_second": told["rows"] / seconds,
        "bases_per_second": None,
        "all_seconds": [run.seconds for run in runs],
        "peak_mb": max(run.peak_mb for run in runs),
    }


def benchmark(settings: Settings) -> None:
    from pipelines import build

    repeats = 1 if settings.quick else settings.repeats
    config, source, task = opened(QUICK if settings.quick else DATA[0], settings.threads)
    began = machine()  # with the threads that it now has
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    encoder = build.encoder(config, build.pattern(config.attention))
    torch.manual_seed(0)
    module, members = task.module(tokenizer, encoder), build.members(config.trainer)
    network = Network(module.ensemble([module] * members).eval(), task.config.window)
    found = stretches(source, settings.quick)
    rows = list(network_rows(network, found, repeats))
    with tempfile.TemporaryDirectory() as scratch:
        path, carried = Path(str(task.config.data.variants)), domain.carried(task.config)
        told = ("genomics", task, tokenizer, encoder, carried, path, ".vcf.gz", Path(scratch))
        job = untrained(*told, members=members)
        rows.append(end_to_end(job, found[0], settings.threads, repeats))
    print(table(rows, [*COLUMNS, "peak_mb"]))
    where = folder(settings.quick, settings.out)
    print("wrote", write("variants_speed", rows, began, folder=where))


if __name__ == "__main__":
    start(Settings, benchmark)
