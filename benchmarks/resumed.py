"""A million records from VCF to VCF: time, memory, and the same bytes after `kill -9`.

    python -m benchmarks.resumed [bundle=DIR] [records=1000000] [quick=true] [out=DIR]

`saturate` writes every substitution of so many bases, the first of the genome's longest contig: a
record a base with its three alternatives. `score` reads that VCF and scores it again. `resumed`
does the same once more, killed with all its processes while it works on a part, when a third of
all parts are scored, and after two thirds again; its figures are of the run that ended, which took
over the parts of those before. Files and indexes of `score` and `resumed` are compared: a byte that
differs ends the benchmark.

Every run is a command of its own, start and imports counted; `peak_mb` is of all its processes
together, and `per_second` counts alleles. Without `bundle` (of genomics, whose FASTA is where it
was) the network is that of experiment=yeast and untrained: weights take no time. Below 300,000
records parts are smaller than the pipeline's own, so that there are six. Takes five minutes on two
quiet cores; needs Linux.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.configured import training_config
from benchmarks.processes import Ran, run_killed, run_measured, stage_seconds
from benchmarks.results import folder, machine, start, table, write
from benchmarks.scale_jobs import ROOT, untrained
from core.bundle import load_bundle
from core.errors import ConfigError, LongstrandError
from domains.genomics import domain
from domains.genomics.contig import read_genome
from domains.genomics.masked import BaseTokenizer
from domains.genomics.variant_file import RECORDS_A_PARTITION
from pipelines import build
from pipelines.train import check_needs, with_data

COLUMNS = ("step", "records", "alleles", "seconds", "per_second", "peak_mb", "parts", "taken_over")
PARTS = 6  # at least
QUICK_RECORDS = 6000
QUICK = (
    "task=mlm",
    f"domain.data.simulation={{contigs: 1, length: {QUICK_RECORDS}, variants: 900}}",
    "domain.window=256",
    "model={dim: 16, layers: 1, heads: 2}",
)
_SMALLER = """
from domains.genomics import variant_file
from pipelines import score
variant_file.RECORDS_A_PARTITION = {}
score.main()
"""
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Options of the command line. `quick` takes a small simulated genome and one kill."""

    bundle: str = ""
    records: int = 1_000_000
    quick: bool = False
    out: str = ""

    def __post_init__(self) -> None:
        if self.records < PARTS:
            raise ConfigError(f"records: found {self.records}, expected {PARTS} or more")

    @property
    def bases(self) -> int:
        return min(self.records, QUICK_RECORDS) if self.quick else self.records


def untrained_bundle(scratch: Path, quick: bool) -> Path:
    """Of the size of experiment=yeast, on its genome; quick: small, on a simulated one."""
    chosen = QUICK if quick else ("experiment=yeast",)
    config = training_config(["domain=genomics", *chosen])
    check_needs(config.needs)
    settings = with_data(domain, build.domain_config(config.domain), scratch)
    task, carried = domain.task(settings), domain.carried(settings)
    encoder = build.encoder(config, build.pattern(config.attention))
    told = ("genomics", task, BaseTokenizer(), encoder, carried, Path(), ".vcf.gz", scratch)
    return untrained(*told).bundle


def stretch(bundle: Path, records: int) -> tuple[Path, str]:
    """The FASTA of a bundle, and the first bases of its longest contig as a region.

    Raises:
        ConfigError: not of genomics, or no contig is so long.
    """
    loaded = load_bundle(bundle)
    if loaded.domain != domain.name:
        raise ConfigError(f"bundle: found domain {loaded.domain} at {bundle}, expected genomics")
    path = Path(loaded.config["data"]["fasta"])
    lengths = {name: len(codes) for name, codes in read_genome(path).contigs.items()}
    longest = max(lengths, key=lambda name: lengths[name])
    if records > lengths[longest]:
        raise ConfigError(
            f"records: found {records}, expected {lengths[longest]} at most, the bases of "
            f"{longest}, the longest contig of {path}"
        )
    return path, f"{longest}:1-{records}"


def scoring(records: int) -> list[str]:
    """`python -m pipelines.score`, with parts small enough for six of them."""
    size = -(-records // PARTS)
    if size >= RECORDS_A_PARTITION:
        return [sys.executable, "-m", "pipelines.score"]
    return [sys.executable, "-c", _SMALLER.format(size)]


def measured(bundle: Path, records: int, kills: int, scratch: Path) -> Iterator[Row]:
    """A row a step.

    Args:
        kills: how often the scoring that is resumed is killed, after even shares of its parts.

    Raises:
        LongstrandError: a command fails, leaves an allele without a score or gives other bytes.
    """
    fasta, region = stretch(bundle, records)
    made, whole, broken = (scratch / f"{name}.vcf.gz" for name in ("made", "whole", "broken"))
    command = [*scoring(records), f"bundle={bundle}"]
    told = [f"input={fasta}", f"output={made}", f"config.scoring.saturate={region}"]
    yield _row("saturate", run_measured([*command, *told], ROOT), made)
    ran = run_measured([*command, f"input={made}", f"output={whole}"], ROOT)
    row = _row("score", ran, whole)
    yield row
    again = [*command, f"input={made}", f"output={broken}"]
    half = stage_seconds(ran.said)["score"] / row["parts"] / 2
    ends = [row["parts"] * kill // (kills + 1) for kill in range(kills + 1)]
    killed = [run_killed(again, ROOT, end - begin, half) for begin, end in pairwise(ends)]
    row = _row("resumed", run_measured(again, ROOT), broken) | {"killed_after": killed}
    if not row["taken_over"]:
        raise LongstrandError(f"{broken}: no part was taken over from the run that was killed")
    require_same_bytes(whole, broken)
    yield row


def _row(step: str, ran: Ran, output: Path) -> Row:
    told = json.loads(ran.last_line)
    if told["scored"] != told["rows"]:
        raise LongstrandError(f"{output}: scored {told['scored']} of {told['rows']} alleles")
    return {
        "step": step,
        "records": told["rows"] // 3,
        "alleles": told["rows"],
        "seconds": ran.seconds,
        "per_second": told["rows"] / ran.seconds,
        "peak_mb": ran.peak_mb,
        "parts": told["partitions"],
        "taken_over": told["resumed"],
        "sha256": _sha256(output),
    }


def require_same_bytes(one: Path, other: Path) -> None:
    """Raises LongstrandError where two VCF or their indexes differ."""
    for suffix in ("", ".tbi"):
        pair = [path.with_name(path.name + suffix) for path in (one, other)]
        digests = [_sha256(path) for path in pair]
        if digests[0] != digests[1]:
            found = ", ".join(f"{p.name} {d}" for p, d in zip(pair, digests, strict=True))
            raise LongstrandError(f"resumed: gave other bytes than one run (SHA-256: {found})")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def benchmark(settings: Settings) -> None:
    """Saturate, score, kill and resume; print and write."""
    began, rows = machine(), list[Row]()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        given = Path(settings.bundle).resolve() if settings.bundle else None
        bundle = given or untrained_bundle(scratch, settings.quick)
        for row in measured(bundle, settings.bases, 1 if settings.quick else 2, scratch):
            rows.append(row)
            print(table(rows[-1:], COLUMNS), flush=True)
    print(table(rows, COLUMNS))
    print("killed after", *(f"{s:.1f} s" for s in rows[-1]["killed_after"]), "- the same bytes")
    print("wrote", write("resumed", rows, began, folder=folder(settings.quick, settings.out)))


if __name__ == "__main__":
    start(Settings, benchmark)
