"""Files that other programs stumble over: each is scored with every allele accounted for, or
refused with one sentence and exit 2."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.domains.genomics.conftest import run_score

FOLDERS = (
    "basenji",
    "derived",
    "gpn",
    "plain_gzip_fasta",
    "vcf_validator/v4.1",
    "vcf_validator/v4.2",
    "vcf_validator/v4.3",
    "vcf_validator/v4.4",
    "who_tb",
)
ABOUT_THE_COLLECTION = {"LICENSE", "LICENSE.md", "README.md", "pysam_outcome.tsv"}
LENGTH = 20_000


def _text(path: Path) -> list[list[bytes]]:
    """Cells of the records, read without the code under test; none where it is no text. Blank lines
    are no records."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except EOFError:
            return []
    lines = [line for line in raw.splitlines() if line.strip() and not line.startswith(b"#")]
    return [line.split(b"\t") for line in lines]


def _alleles(path: Path) -> int:
    """Alternatives of a VCF; a record without one, and a line that is no record, counts as one."""
    whole = [c for c in _text(path) if len(c) >= 8 and c[1].isdigit()]
    return sum(max(1, c[4].count(b",") + 1) for c in whole) + len(_text(path)) - len(whole)


@pytest.fixture(scope="module")
def genome(genomics_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contigs of the collection's small files, with the first REF of each place in its place."""
    draw = np.random.default_rng(0)
    contigs: dict[str, np.ndarray] = {}
    for path in sorted((genomics_data / "robustness/vcf_validator").rglob("passed/*.vcf")):
        for cells in _text(path):
            name = cells[0].decode("ascii", "replace")
            if len(cells) < 8 or not cells[1].isdigit() or not name.isalnum():
                continue
            sequence = contigs.setdefault(name, draw.choice(list(b"ACGT"), LENGTH))
            at = int(cells[1]) - 1
            if set(cells[3]) <= set(b"ACGTN") and 0 <= at < LENGTH - len(cells[3]):
                sequence[at : at + len(cells[3])] = list(cells[3])
    path = tmp_path_factory.mktemp("robustness") / "genome.fa"
    path.write_text(
        "".join(f">{n}\n{s.astype(np.uint8).tobytes().decode()}\n" for n, s in contigs.items())
    )
    return path


def _reference(path: Path, genomics_data: Path, genome: Path) -> Path:
    beside = sorted(path.parent.glob("*.fa"))
    if path.parent.name == "derived":
        return genomics_data / "brca1_sge" / "brca1_hg19_slice.fa"
    return beside[0] if "assembly_checker" in path.parts and beside else genome


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """The bundle and each configuration are read once, not for each of a thousand files."""
    import core.bundle
    from pipelines import build

    load, restored = core.bundle.load_bundle, build.restored_config
    kept: dict[str, Any] = {}

    def once(domain: Any, saved: Any, overrides: Any) -> Any:
        key = str(overrides)
        if key not in kept:
            kept[key] = restored(domain, saved, overrides)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.bundle, "load_bundle", cache(load))
        patch.setattr(build, "restored_config", once)
        yield


def _outcome(path: Path, fasta: Path, bare_bundle: Path, out: Path) -> str:
    """scored, or refused; asserts that nothing is lost and that a refusal is a sentence."""
    out.unlink(missing_ok=True)
    data = {"source": "files", "fasta": str(fasta), "annotation": None}
    summary: dict[str, Any] = run_score(bare_bundle, path, out, data=data)
    if "error" in summary:
        assert summary["exit_code"] == 2, (path, summary)
        assert str(path.name) in summary["error"] or str(fasta) in summary["error"], summary
        assert len(summary["error"]) > 20 and "\n" not in summary["error"], summary
        assert not out.exists()
        return "refused"
    counts = {k: n for k, n in summary["reasons"].items() if k != "NOT_INDEXED_UNSORTED"}
    assert summary["rows"] == _alleles(path) == summary["scored"] + sum(counts.values()), path
    written = _text(out)
    assert len(written) == len(_text(path)), path
    told = [c for c in written if len(c) >= 8 and b"LS_REASON=" in c[7]]
    for cells in told:
        reasons = cells[7].rpartition(b"LS_REASON=")[2].split(b";")[0]
        assert reasons.count(b",") == cells[4].count(b","), cells
    assert len(told) == len(written) - summary["reasons"].get("MALFORMED_RECORD", 0), path
    return "scored"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_scored_whole_or_refused_with_a_sentence(
    genomics_data: Path,
    genome: Path,
    bare_bundle: Path,
    tmp_path: Path,
    folder: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally: Counter[str] = Counter()
    files = sorted(p for p in (genomics_data / "robustness" / folder).rglob("*") if p.is_file())
    for path in files:
        if path.name in ABOUT_THE_COLLECTION:
            continue
        if ".fa" in path.name and path.suffix != ".fai":
            fasta, variants = path, genomics_data / "brca1_sge" / "brca1_sge.slice.vcf.gz"
            tally["FASTA " + _outcome(variants, fasta, bare_bundle, tmp_path / "out.vcf")] += 1
        else:
            fasta = _reference(path, genomics_data, genome)
            tally[_outcome(path, fasta, bare_bundle, tmp_path / "out.vcf.gz")] += 1
    assert sum(tally.values()) > 0
    with capsys.disabled():
        print(f"\n{folder}: " + ", ".join(f"{n} {what}" for what, n in sorted(tally.items())))
