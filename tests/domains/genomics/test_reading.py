"""Files in: FASTA, labelled variants; what cannot be used is said, never dropped."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from core.errors import ConfigError, DataContractError, TooFewLabelsError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import read_genome
from domains.genomics.data_config import GenomicsData, SplitConfig

HEADER = "##fileformat=VCFv4.3\n##contig=<ID=c,length=12>\n"
FIELDS = (
    '##INFO=<ID=L,Number=1,Type=Float,Description="l">\n'
    '##INFO=<ID=W,Number=1,Type=Float,Description="w">\n'
    '##INFO=<ID=EXON,Number=1,Type=String,Description="e">\n'
)
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def _open(folder: Path, records: list[str], **data):  # type: ignore[no-untyped-def]
    (folder / "g.fa").write_text(">c\nACGTACGTNCGT\n")
    (folder / "v.vcf").write_text(HEADER + FIELDS + COLUMNS + "".join(r + "\n" for r in records))
    config = GenomicsData(
        source="files",
        fasta=str(folder / "g.fa"),
        variants=data.pop("variants", str(folder / "v.vcf")),
        label="L",
        split=SplitConfig(kind="blocks", block=1, folds=2, purge=0),
        **data,
    )
    return domain.open(GenomicsConfig(data=config), "train")


def test_plain_gzip_fasta_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    with gzip.open(path, "wt") as f:
        f.write(">c\nACGT\n")
    with pytest.raises(ConfigError, match="bgzip"):
        read_genome(path)


def test_bgzip_crlf_and_ragged_fasta_read_alike(tmp_path: Path) -> None:
    import pysam

    texts = {"plain.fa": ">c x\nACGT\nAC\n", "crlf.fa": ">c x\r\nACGT\r\nAC\r\n"}
    texts["ragged.fa"] = ">c\nA\nCGTA\nC\n"
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode())
    pysam.tabix_compress(str(tmp_path / "plain.fa"), str(tmp_path / "block.fa.gz"))
    md5 = {read_genome(tmp_path / name).md5 for name in (*texts, "block.fa.gz")}
    assert len(md5) == 1


@pytest.mark.parametrize("text", ["", "ACGT\n", ">c\nAC1T\n"])
def test_what_is_no_fasta_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.fa").write_text(text)
    with pytest.raises(ConfigError):
        read_genome(tmp_path / "g.fa")


def test_every_unusable_row_is_set_aside_with_what_was_expected(tmp_path: Path) -> None:
    records = [
        "c\t1\t.\tA\tC\t.\t.\tL=1",
        "c\t2\t.\tc\tg\t.\t.\tL=2",  # lower case agrees
        "c\t3\t.\tA\tC\t.\t.\tL=3",  # REF is G
        "d\t1\t.\tA\tC\t.\t.\tL=3",
        "c\t99\t.\tA\tC\t.\t.\tL=3",
        "c\t4\t.\tTA\tT\t.\t.\tL=3",
        "c\t5\t.\tA\tC\t.\t.\tW=1",
        "c\t6\t.\tC\tG,T\t.\t.\tL=3",  # one number for two alternatives
        "c\t1\t.\tA\tC\t.\t.\tL=1",  # twice
        "c\t9\t.\tR\tA\t.\t.\tL=3",
        "c\t10\t.\tC\tA\t.\t.\tL=4",
    ]
    source = _open(tmp_path, records)
    aside = source.set_aside().collect()
    told = {(r["row"], r["column"]): (r["found"], r["expected"]) for r in aside.to_dicts()}
    assert told[2, "ref"] == ("A", "G")
    assert told[3, "chrom"][0] == "d" and told[4, "pos"][0] == "99"
    assert told[5, "ref"][0] == "TA" and told[6, "L"][1] == "a finite number"
    assert {row for row, _ in told} == {2, 3, 4, 5, 6, 7, 8, 9, 10}
    assert source.variants["row"].to_list() == [0, 1, 11]
    assert source.variants["pos"].to_list() == [0, 1, 9]


def test_a_substitution_of_a_base_is_read_however_it_is_padded(tmp_path: Path) -> None:
    head = HEADER + FIELDS.replace("ID=L,Number=1", "ID=L,Number=A") + COLUMNS
    records = [
        "c\t1\t.\tACG\tCCG,ATG,AC\t.\t.\tL=1,2,3",  # as bcftools merge spells them
        "c\t7\t.\tGtN\tGcN\t.\t.\tL=4",
        "c\t2\t.\tCG\tTG\t.\t.\tL=5",  # the second one again
        "c\t5\t.\tAG\tTG\t.\t.\tL=6",  # REF is AC
        "c\t3\t.\tGT\tGT\t.\t.\tL=7",
        "c\t3\t.\tGT\tAC\t.\t.\tL=8",
    ]
    padded = tmp_path / "padded.vcf"
    padded.write_text(head + "".join(r + "\n" for r in records))
    source = _open(tmp_path, [], variants=str(padded))
    columns = source.variants.select("row", "pos", "ref", "alt", "label")
    assert columns.rows() == [(0, 0, 0, 1, 1.0), (1, 1, 1, 3, 2.0), (3, 7, 3, 1, 4.0)]
    aside = source.set_aside().collect().select("row", "column", "found", "expected")
    assert aside.rows() == [
        (2, "ref", "ACG", "one base"),
        (4, "alt", "T", "one row an allele"),
        (5, "ref", "AG", "one base"),
        (6, "alt", "G", "a base other than REF"),
        (7, "ref", "GT", "one base"),
    ]


def test_a_field_that_has_no_value_for_each_alternative_says_how_many_it_has(
    tmp_path: Path,
) -> None:
    fields = FIELDS.replace("ID=W,Number=1", "ID=W,Number=.")
    records = [
        "c\t1\t.\tA\tC\t.\t.\tL=1;W=1",
        "c\t6\t.\tC\tG,T\t.\t.\tL=3;W=1,1",
        "c\t5\t.\tA\tG\t.\t.\tL=3;W=1,2",
    ]
    (tmp_path / "two.vcf").write_text(HEADER + fields + COLUMNS + "\n".join(records) + "\n")
    source = _open(tmp_path, [], variants=str(tmp_path / "two.vcf"), weight="W")
    aside = source.set_aside().collect().select("row", "column", "found", "expected")
    assert aside.rows() == [
        (1, "L", "one value for 2 alternatives", "a finite number"),
        (2, "L", "one value for 2 alternatives", "a finite number"),
        (3, "W", "2 values for 1 alternative", "a number above 0"),
    ]


def test_a_row_with_several_bad_cells_is_set_aside_once(tmp_path: Path) -> None:
    good = "c\t2\t.\tC\tA\t.\t.\tL=1;W=1"
    records = ["d\t99\t.\tTA\tN\t.\t.\t.", "c\t1\t.\tA\tC\t.\t.\tL=1", good]
    source = _open(tmp_path, records, weight="W")
    aside = source.set_aside().collect()
    assert aside.select("row", "column").rows() == [(0, "chrom"), (1, "W")]


def test_training_without_variants_names_the_key(tmp_path: Path) -> None:
    data = GenomicsData(source="files", fasta=str(tmp_path / "none.fa"))
    with pytest.raises(ConfigError, match=r"data\.variants: found none"):
        domain.open(GenomicsConfig(data=data), "train")


def test_table_and_vcf_give_the_same_rows(tmp_path: Path) -> None:
    records = ["c\t1\t.\tA\tC\t.\t.\tL=1;W=10", "c\t2\t.\tC\tG\t.\t.\tL=2;W=30"]
    table = tmp_path / "v.tsv"
    table.write_text("chrom\tpos\tref\talt\tL\tW\nc\t1\tA\tC\t1\t10\nc\t2\tC\tG\t2\t30\n")
    one = _open(tmp_path, records, weight="W", weight_half=10.0)
    two = _open(tmp_path, records, weight="W", weight_half=10.0, variants=str(table))
    assert one.variants.equals(two.variants)
    assert one.variants["weight"].to_list() == [0.5, 0.75]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("v.csv", "chrom,pos,ref,alt,L"),
        ("v.tsv", "CHROM\tPosition\tREF\tALT\tL"),
        ("v.csv", "gene,chr,alt,L,pos,ref"),
    ],
)
def test_a_table_of_labels_may_be_written_as_one_to_score(
    tmp_path: Path, name: str, header: str
) -> None:
    separator = "," if name.endswith(".csv") else "\t"
    row = {"chrom": "c", "pos": "2", "ref": "C", "alt": "A", "L": "0.5", "gene": "g"}
    usual = {"CHROM": "chrom", "chr": "chrom", "Position": "pos", "REF": "ref", "ALT": "alt"}
    cells = [row[usual.get(column, column)] for column in header.split(separator)]
    (tmp_path / name).write_text(f"{header}\n{separator.join(cells)}\n")
    found = _open(tmp_path, [], variants=str(tmp_path / name)).variants
    assert found.select("chrom", "pos", "ref", "alt", "label").row(0) == ("c", 1, 1, 0, 0.5)


def test_minimum_keeps_rows_that_reach_it(tmp_path: Path) -> None:
    records = [f"c\t{i}\t.\t{b}\tN\t.\t.\tL=1;W={i}" for i, b in ((1, "A"), (2, "C"), (3, "G"))]
    records = [r.replace("\tN\t", "\tT\t") for r in records]
    source = _open(tmp_path, records, min_field="W", min_value=2.0)
    assert source.variants["row"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("values", "told"),
    [(("W=4", "W=7.5"), "its largest is 7.5"), (("EXON=a", "EXON=b"), "no row has a number there")],
)
def test_a_minimum_that_nothing_reaches_says_what_is_there(
    tmp_path: Path, values: tuple[str, str], told: str
) -> None:
    records = [f"c\t1\t.\tA\tC\t.\t.\tL=1;{values[0]}", f"c\t2\t.\tC\tG\t.\t.\tL=1;{values[1]}"]
    with pytest.raises(DataContractError, match=f"W of 20 or more .* 2 usable ones; {told}"):
        _open(tmp_path, records, min_field="W", min_value=20.0)


def test_classes_become_0_and_1(tmp_path: Path) -> None:
    records = ["c\t1\t.\tA\tC\t.\t.\tL=1;EXON=a", "c\t2\t.\tC\tG\t.\t.\tL=2;EXON=b"]
    (tmp_path / "v.tsv").write_text(
        "chrom\tpos\tref\talt\tL\nc\t1\tA\tC\tLOF\nc\t2\tC\tG\tFUNC\nc\t3\tG\tA\tINT\n"
    )
    source = _open(
        tmp_path,
        records,
        variants=str(tmp_path / "v.tsv"),
        label_kind="classification",
        positive=["LOF"],
    )
    assert source.variants["label"].to_list() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("missing", ["NA", "N/A", "#N/A", "NaN", "nan", "null", "None", ".", ""])
def test_what_stands_for_no_class_is_no_other_class(tmp_path: Path, missing: str) -> None:
    table = tmp_path / "v.csv"
    table.write_text(f"chrom,pos,ref,alt,L\nc,1,A,C, LOF \nc,2,C,G,FUNC\nc,3,G,A,{missing}\n")
    told = {"label_kind": "classification", "positive": ["LOF"]}
    source = _open(tmp_path, [], variants=str(table), **told)
    assert source.variants["label"].to_list() == [1.0, 0.0]
    assert source.set_aside().collect()["row"].to_list() == [2]


CLASSES = ("LOF", "FUNC", "INT", "FUNC", "FUNC", "LOF", "FUNC", "INT")


def _folds(folder: Path, classes: tuple[str, ...], positive: list[str]):  # type: ignore[no-untyped-def]
    bases = zip("ACGTACGT", "CAAACAAA", classes, strict=True)
    rows = [f"c\t{i}\t{ref}\t{alt}\t{c}" for i, (ref, alt, c) in enumerate(bases, 1)]
    (folder / "v.tsv").write_text("\n".join(["chrom\tpos\tref\talt\tL", *rows]) + "\n")
    told = {"label_kind": "classification", "positive": positive}
    source = _open(folder, [], variants=str(folder / "v.tsv"), **told)
    return domain.task(source.config).folds(source)


def test_a_positive_class_that_no_label_is_of_is_refused(tmp_path: Path) -> None:
    told = r"data\.positive: found Int, which .* labels are FUNC \(4\), INT \(2\), LOF \(2\)"
    with pytest.raises(ConfigError, match=told):
        _folds(tmp_path, CLASSES, ["LOF", "Int"])
    assert len(_folds(tmp_path, CLASSES, ["LOF", "INT"])) == 3


def test_labels_of_one_class_are_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(TooFewLabelsError, match=r"FUNC, INT, LOF, which are all .*\(FUNC \(4\)"):
        _folds(tmp_path, CLASSES, ["FUNC", "INT", "LOF"])
    # Each of two folds of single bases tests every other one.
    alternating = ("LOF", "FUNC") * 4
    with pytest.raises(TooFewLabelsError, match=r"fold0 would train on 0 positive and \d+ neg"):
        _folds(tmp_path, alternating, ["LOF"])


def test_unknown_label_field_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no INFO field NONE; it has L, W, EXON"):
        _open(tmp_path, ["c\t1\t.\tA\tC\t.\t.\tL=1"], min_field="NONE")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"fasta": "x.fa"}, "data.source=files"),
        ({"source": "files"}, "data.fasta"),
        ({"label_kind": "classification"}, "data.positive"),
        ({"positive": ["LOF"]}, "data.positive"),
        ({"min_value": 3.0}, "data.min_field"),
        ({"source": "web"}, "simulated, files"),
    ],
)
def test_contradicting_options_are_refused(arguments: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        GenomicsData(**arguments)


def test_config_is_a_hydra_structured_config() -> None:
    from omegaconf import OmegaConf

    node = OmegaConf.merge(
        OmegaConf.structured(GenomicsConfig),
        {"data": {"split": {"kind": "blocks"}, "contig_alias": {"a": "b"}}},
    )
    config = OmegaConf.to_object(node)
    assert isinstance(config, GenomicsConfig) and config.data.split.kind == "blocks"


def test_importing_the_domain_is_cheap() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import domains.genomics; "
        "assert not {'torch', 'pysam', 'polars'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ranges_end_with_their_contig_unless_it_is_short() -> None:
    from domains.genomics.ranges import cut_ranges

    def lines(text: str) -> list[bytes]:
        return [f"{contig}\t1".encode() for contig in text]

    assert cut_ranges(lines("aaaaabbbbbbb"), 8) == [0, 5, 12]
    assert cut_ranges(lines("abcdeffffff"), 8) == [0, 4, 11]
    assert cut_ranges(lines("aaaaaaaaaa"), 4) == [0, 4, 8, 10]
    assert cut_ranges([], 4) == [0, 0]
