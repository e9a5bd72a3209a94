"""Files of every format: the same scores, the same rows, and a bad line told by its number."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from core.errors import DataContractError
from domains.finance import domain
from domains.finance.formats import SUFFIXES, scan, suffix, write
from domains.finance.labelled import TransactionSource
from domains.finance.schema import load_schema


@pytest.fixture
def table(config):
    text = pl.read_csv(Path(config.data.path).with_suffix(".csv"), infer_schema=False).head(400)
    return text.with_columns(pl.col("card_id").str.replace("C", "00"), remark=pl.lit('a, "b"\n'))


def put(table: pl.DataFrame, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    write(table.lazy(), path, suffix(path))
    return path


@pytest.mark.parametrize("end", SUFFIXES)
def test_every_format_is_scored_alike_and_comes_back_as_it_was(table, tmp_path, score_file, end):
    score_file(put(table, tmp_path / "in.csv"), tmp_path / "csv.parquet")
    out = tmp_path / f"out{end.upper()}"
    summary = score_file(put(table, tmp_path / f"in{end}"), out)
    assert (summary.rows, summary.scored, summary.files) == (400, 400, [str(out)])
    written, scores = scan(out).collect(), pl.read_parquet(tmp_path / "csv.parquet")
    assert written.select(table.columns).equals(table)
    assert written["fraud_score"].cast(pl.Float64).equals(scores["fraud_score"])
    magic = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}.get(out.suffix.lower())
    assert magic is None or out.read_bytes().startswith(magic)
    before = out.read_bytes()
    score_file(tmp_path / f"in{end}", out)
    assert out.read_bytes() == before


def test_a_folder_of_many_formats_is_written_back_in_each(table, tmp_path, score_file):
    parts = list(table.iter_slices(-(-len(table) // len(SUFFIXES))))
    for part, end in zip(parts, SUFFIXES, strict=True):
        put(part, tmp_path / "in" / f"part{end}")
    assert score_file(tmp_path / "in", tmp_path / "out").scored == 400
    for part, end in zip(parts, SUFFIXES, strict=True):
        written = scan(tmp_path / "out" / f"part{end}").collect()
        assert written.select(part.columns).equals(part), end


def test_history_and_training_take_every_format(table, tmp_path, scorer_of):
    parts = list(table.sort("time").iter_slices(-(-len(table) // (len(SUFFIXES) + 1))))
    for number, (part, end) in enumerate(zip(parts, SUFFIXES, strict=False)):
        put(part, tmp_path / "h" / f"{number:02}{end}")
    scorer = scorer_of(put(parts[-1], tmp_path / "in.jsonl.gz"), tmp_path / "h" / "*")
    scorer.prepare(tmp_path)
    assert scorer.facts.context == sum(map(len, parts[:-1]))
    labelled = TransactionSource(tmp_path / "h", load_schema("simulated"))
    assert len(labelled.events) == scorer.facts.context


def test_json_has_numbers_and_fields_that_begin_late(config, tmp_path, score_file):
    typed = pl.read_parquet(config.data.path).head(300)
    rows = typed.with_columns(pl.col("time").dt.to_string("iso")).to_dicts()
    for number, row in enumerate(rows):
        row["time"] = row["time"].replace(" ", "T")
        if number == 250:
            row |= {"note": {"by": ["me"]}}
    text = "".join(json.dumps(row) + "\n\n" for row in rows)
    (tmp_path / "in.jsonl").write_text(text)
    score_file(tmp_path / "in.jsonl", tmp_path / "out.ndjson")
    score_file(put(typed, tmp_path / "in.parquet"), tmp_path / "out.parquet")
    found = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [row["note"] for row in found[249:251]] == [None, {"by": ["me"]}]
    assert [{k: row[k] for k in rows[0]} for row in found] == [
        {k: row[k] for k in rows[0]} for row in rows
    ]
    scores = pl.read_parquet(tmp_path / "out.parquet")["fraud_score"].to_list()
    assert [row["fraud_score"] for row in found] == scores


def test_bad_cells_of_json_are_set_aside(table, tmp_path, score_file):
    rows = table.to_dicts()
    rows[3]["amount"], rows[7]["card_id"] = "12,5O", None
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    summary = score_file(path, tmp_path / "out.jsonl.gz")
    assert (summary.rows, summary.scored) == (400, 398)
    aside = pl.read_csv(tmp_path / "out.jsonl.gz.set_aside.csv")
    assert aside.select("row", "column").rows() == [(3, "amount"), (7, "card_id")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"secret": 4392', "line 6: found 15 characters that are not JSON, expected one JSON"),
        ('{"secret": NaN}', "line 6: found 15 characters that are not JSON"),
        ("[4392]", "line 6: found a list, expected one JSON object a line"),
        ('{"amount": true}', "line 6: found true or false in a field with a number on line 1"),
    ],
)
@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz"])
def test_a_bad_line_is_told_by_file_and_number(table, tmp_path, score_file, line, found, end):
    rows = table.head(9).with_columns(pl.col("amount").cast(float))
    lines = [json.dumps(row) for row in rows.to_dicts()]
    text = "\n".join([*lines[:5], line, *lines[5:]]).encode()
    path = put(rows, tmp_path / "in" / f"b{end}")
    put(rows.head(0), tmp_path / "in" / "a.csv")
    path.write_bytes(gzip.compress(text) if end.endswith(".gz") else text)
    for input in (path, path.parent):
        with pytest.raises(DataContractError, match=f"b{end}: {found}") as error:
            score_file(input, tmp_path / "out.csv" if input == path else tmp_path / "out")
        assert "4392" not in str(error.value)
    with pytest.raises(DataContractError, match=f"b{end}: {found}"):
        TransactionSource(path, load_schema("simulated"))


@pytest.mark.parametrize("end", [end for end in SUFFIXES if end.endswith((".gz", ".zst"))])
def test_a_file_that_breaks_off_is_told(table, tmp_path, score_file, end):
    path = put(table, tmp_path / f"in{end}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataContractError, match=rf"in{end}: line \d+ or later: found the end"):
        score_file(path, tmp_path / "out.csv")


def test_an_empty_json_file_has_no_columns(tmp_path, score_file):
    (tmp_path / "in.jsonl").touch()
    with pytest.raises(DataContractError, match="found no line with a field, expected one JSON"):
        score_file(tmp_path / "in.jsonl", tmp_path / "out.csv")


def test_training_learns_the_same_from_json(config, tmp_path):
    table = pl.read_parquet(config.data.path)
    write(table.lazy(), tmp_path / "t.jsonl.zst", ".jsonl.zst")
    data = dataclasses.replace(config.data, path=str(tmp_path / "t.jsonl.zst"))
    given = domain.open(config, "train")
    found = domain.open(dataclasses.replace(config, data=data), "train")
    assert isinstance(given, TransactionSource) and isinstance(found, TransactionSource)
    assert found.events.equals(given.events)


def test_training_reads_hive_folders_as_scoring_does(table, tmp_path):
    whole = put(table.sort("channel", maintain_order=True), tmp_path / "whole.csv")
    for (channel,), rows in table.group_by("channel"):
        put(rows.drop("channel"), tmp_path / "in" / f"channel={channel}" / "part-0.jsonl.gz")
    put(table, tmp_path / "in" / "_old" / "part-0.csv")
    schema = load_schema("simulated")
    given, found = TransactionSource(whole, schema), TransactionSource(tmp_path / "in", schema)
    assert found.events.equals(given.events)
    first = sorted((tmp_path / "in").glob("channel=*"))[0]
    first.rename(first.with_name("channel=a"))
    renamed = TransactionSource(tmp_path / "in", schema)
    assert renamed.fingerprint() != found.fingerprint()
