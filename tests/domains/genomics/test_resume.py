"""A scoring that kill -9 stops, between partitions and while it writes, ends with the bytes of one
that was not stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from domains.genomics.config import GenomicsConfig
from tests.domains.genomics.conftest import ROOT

BROKEN = ("early", "late")
# Forks of one process that has imported torch and run none of its threads. argv: a JSON list of
# [arguments of pipelines.score, partition to die at, moment: "score" (when it is done), "write"].
RUN = """
import json, os, signal, sys
import hydra, polars, torch
import domains.genomics.model, domains.genomics.tile
from domains.genomics import scoring, variant_file
from pipelines import score

variant_file.RECORDS_A_PARTITION = 60

def killed(parts, nth):
    for number, part in enumerate(parts, 1):
        if number == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        yield part

def arm(nth, moment):
    if moment == "score":
        parts = score.score_parts
        score.score_parts = lambda *given: killed(parts(*given), nth)
    if moment == "write":
        write = scoring.write_scored
        scoring.write_scored = lambda source, header, frames, *rest: write(
            source, header, killed(frames, nth), *rest
        )

codes = []
for arguments, nth, moment in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if os.fork() == 0:
        arm(nth, moment)
        sys.argv[1:] = arguments
        score.main()
        sys.stdout.flush()
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps(codes))
"""


def _run(folder: Path, jobs: list[tuple[list[str], int, str]]) -> list[Any]:
    """What the commands that ended printed, and the exit codes of all."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(jobs)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_scoring_goes_on_to_the_same_bytes(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig
) -> None:
    import pysam

    saturate = [f"input={simulated.data.fasta}", "config.scoring.saturate=sim1:1-300"]
    made = [f"bundle={bundle}", *saturate, "output=made.vcf.gz"]
    whole, early, late = (
        [f"bundle={bundle}", "input=made.vcf.gz", f"output={name}.vcf.gz"]
        for name in ("whole", *BROKEN)
    )
    jobs = [(made, 0, ""), (whole, 0, "")]
    for broken, nth, moment in ((early, 3, "score"), (late, 4, "write")):
        jobs += [(broken, nth, moment), (broken, 0, "")]
    *told, codes = _run(tmp_path, jobs)
    assert codes == [0, 0, -signal.SIGKILL, 0, -signal.SIGKILL, 0]
    # Killed after the third partition was done, and when all were done but not all written.
    assert [(t["partitions"], t["resumed"]) for t in told] == [(5, 0), (5, 0), (5, 3), (5, 5)]
    for suffix in ("vcf.gz", "vcf.gz.tbi"):
        one, *others = ((tmp_path / f"{n}.{suffix}").read_bytes() for n in ("whole", *BROKEN))
        assert all(other == one for other in others)
    with pysam.VariantFile(str(tmp_path / "early.vcf.gz")) as variants:
        scored = [r.info["LS_EFFECT"] for r in variants.fetch("sim1")]
    assert len(scored) == 300 and all(len(effects) == 3 for effects in scored)
    # Nothing is left of what was written in part.
    names = ("made", "whole", *BROKEN)
    files = {f"{name}.vcf.gz{suffix}" for name in names for suffix in ("", ".tbi")}
    assert {path.name for path in tmp_path.iterdir()} == files
