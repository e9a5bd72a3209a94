"""A variant has the same score on two assemblies that agree around it.

The two slices of BRCA1 begin at different places of chromosome 17, so that the same base has
another position, and lies elsewhere in its tile, in each.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from domains.genomics import variant_file
from tests.domains.genomics.conftest import run_score

# Slice position = chromosome position - start, and hg38 = hg19 + 1,847,983 here.
HG19_START, HG38_START, HG38_LESS_HG19 = 41_100_000, 43_000_000, 1_847_983
TO_HG19_SLICE = HG38_START - HG38_LESS_HG19 - HG19_START
VARIANTS = 3893
TOLERANCE = 1e-5


def _scored(bundle: Path, files: dict[str, Path], out: Path, window: int) -> pl.DataFrame:
    data = {"source": "files"} | {n: str(files[n]) for n in ("fasta", "annotation")}
    summary = run_score(bundle, files["variants"], out, data=data, window=window)
    assert summary["scored"] == summary["rows"], summary
    return pl.read_parquet(out)


def _first_left_out(path: Path, out: Path, records: int) -> Path:
    """The VCF without its first records: tiles begin at another variant."""
    import gzip

    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    header = [line for line in lines if line.startswith(b"#")]
    out.write_bytes(b"".join([*header, *lines[len(header) + records :]]))
    return out


@pytest.mark.parametrize(
    ("left_out", "window", "part"), [(0, 64, 50_000), (1, 64, 50_000), (40, 1001, 777)]
)
def test_shared_variants_score_alike_on_hg19_and_hg38_whatever_the_tiles(
    tmp_path: Path,
    bundle: Path,
    genomics_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    left_out: int,
    window: int,
    part: int,
) -> None:
    folder = genomics_data / "brca1_sge"
    hg19 = {
        "fasta": folder / "brca1_hg19_slice.fa",
        "annotation": folder / "brca1.slice.gff3",
        "variants": folder / "brca1_sge.slice.vcf.gz",
    }
    whole = folder / "brca1_sge.hg38slice.vcf.gz"
    hg38 = {
        "fasta": folder / "brca1_hg38_slice.fa",
        "annotation": folder / "brca1.hg38slice.gff3",
        "variants": _first_left_out(whole, tmp_path / "hg38.vcf", left_out),
    }
    one = _scored(bundle, hg19, tmp_path / "hg19.parquet", 64)
    monkeypatch.setattr(variant_file, "RECORDS_A_PARTITION", part)
    two = _scored(bundle, hg38, tmp_path / "hg38.parquet", window)
    key = ["pos", "ref", "alt"]
    shared = one.join(
        two.with_columns(pl.col("pos") + TO_HG19_SLICE), on=key, suffix="_hg38", validate="1:1"
    )
    assert len(one) == VARIANTS and len(shared) == len(two) == VARIANTS - left_out
    assert shared["effect"].n_unique() > VARIANTS / 2
    assert (shared["effect"] - shared["effect_hg38"]).abs().max() < TOLERANCE  # type: ignore[operator]
    assert shared["csq"].equals(shared["csq_hg38"])
