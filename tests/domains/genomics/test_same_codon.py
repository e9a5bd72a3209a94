"""SAME_CODON stands where two scored substitutions change one codon, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_consequence import GENE, _gff3
from tests.domains.genomics.test_input import COLUMNS, HEADER, _record

# The first codon, ATG, lies at 24 to 26.
CASES = {
    "two substitutions": ([(24, "A", "C"), (26, "G", "A")], "yy"),
    "behind a deleted base": ([(24, "A", "*,T"), (25, "T", "G")], "yy"),
    "behind an insertion": ([(24, "A", "AT,G"), (25, "T", "G")], "yy"),
    "with a base around": ([(24, "AT", "GT"), (26, "G", "A")], "yy"),
    "beside an insertion": ([(24, "A", "ATT"), (25, "T", "G")], "nn"),
    "beside another REF": ([(24, "C", "T"), (25, "T", "G")], "nn"),
    "beside no change": ([(24, "A", "A"), (25, "T", "G")], "nn"),
    "of another codon": ([(26, "G", "A"), (27, "A", "G")], "nn"),
    "at one place": ([(26, "G", "A"), (26, "G", "C")], "nn"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_codon_that_two_scored_substitutions_change_has_a_warning(
    tmp_path: Path, bundle: Path, case: str
) -> None:
    records, expected = CASES[case]
    (tmp_path / "g.fa").write_text(f">c\n{GENE}\n")
    (tmp_path / "g.gff3").write_text(_gff3())
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + COLUMNS + "".join(_record(*record) for record in records))
    files = {"fasta": str(tmp_path / "g.fa"), "annotation": str(tmp_path / "g.gff3")}
    run_score(bundle, path, tmp_path / "out.vcf", data=files)
    written = (tmp_path / "out.vcf").read_text().splitlines()[-len(records) :]
    told = "".join("y" if "LS_WARNING=SAME_CODON" in line else "n" for line in written)
    assert told == expected
