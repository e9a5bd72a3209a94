"""Files: same rows, same order, same cells, and every row accounted for."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.calibration import Calibration
from core.errors import ConfigError, DataContractError, LongstrandError
from domains.finance import scorer as scorer_module


@pytest.fixture
def table(config):
    """The CSV's text, shuffled, with identifiers that start with zeros and a column of the
    user's own."""
    text = pl.read_csv(Path(config.data.path).with_suffix(".csv"), infer_schema=False).head(900)
    return text.with_columns(
        pl.col("card_id").str.replace("C", "00"),
        remark=pl.lit('a, "quoted" remark'),
    ).sample(fraction=1.0, shuffle=True, seed=1)


def test_csv_keeps_rows_order_and_every_cell(table, tmp_path, score_file):
    table.write_csv(tmp_path / "in.csv")
    summary = score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    out = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert out.select(table.columns).equals(table)
    assert out.columns[len(table.columns) :] == ["fraud_score", "model_version", "scored_at"]
    assert out["fraud_score"].cast(pl.Float64).is_between(0, 1).all()
    assert (summary.rows, summary.scored, summary.reasons) == (900, 900, {})


def test_parquet_keeps_rows_order_and_types(config, tmp_path, score_file):
    table = pl.read_parquet(config.data.path).head(500).reverse()
    table.write_parquet(tmp_path / "in.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").select(table.columns).equals(table)


def test_csv_and_parquet_give_equal_scores(config, tmp_path, score_file):
    folder = Path(config.data.path).parent
    pl.read_csv(folder / "transactions.csv", infer_schema=False).head(500).write_csv(
        tmp_path / "in.csv"
    )
    pl.read_parquet(folder / "transactions.parquet").head(500).write_parquet(
        tmp_path / "in.parquet"
    )
    score_file(tmp_path / "in.csv", tmp_path / "a.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "b.parquet")
    a, b = (pl.read_parquet(tmp_path / n)["fraud_score"] for n in ("a.parquet", "b.parquet"))
    assert a.equals(b)


def test_rerun_changes_no_byte(table, tmp_path, score_file):
    table.write_csv(tmp_path / "in.csv")
    score_file(tmp_path / "in.csv", tmp_path / "a.csv")
    score_file(tmp_path / "in.csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_partitions_do_not_change_scores(table, tmp_path, score_file, monkeypatch):
    table.write_csv(tmp_path / "in.csv")
    score_file(tmp_path / "in.csv", tmp_path / "one.parquet")
    monkeypatch.setattr(scorer_module, "PART_ROWS", 100)
    score_file(tmp_path / "in.csv", tmp_path / "nine.parquet")
    one, nine = (
        pl.read_parquet(tmp_path / n)["fraud_score"].to_numpy()
        for n in ("one.parquet", "nine.parquet")
    )
    np.testing.assert_allclose(one, nine, atol=1e-5)


def test_bad_rows_are_set_aside_and_counted(table, tmp_path, score_file):
    broken = table.with_row_index().with_columns(
        amount=pl.when(pl.col("index") == 5).then(pl.lit("12,5O")).otherwise("amount"),
        time=pl.when(pl.col("index").is_in([5, 77])).then(pl.lit("soon")).otherwise("time"),
        card_id=pl.when(pl.col("index") == 80).then(pl.lit("")).otherwise("card_id"),
    )
    broken.drop("index").write_csv(tmp_path / "in.csv")
    summary = score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (summary.rows, summary.scored) == (900, 897)
    assert sum(summary.reasons.values()) == 3
    aside = pl.read_csv(tmp_path / "out.csv.set_aside.csv")
    assert aside.select("row", "column").rows() == [
        (5, "amount"),
        (5, "time"),
        (77, "time"),
        (80, "card_id"),
    ]
    assert aside["found"].to_list() == [
        "5 characters, letters and digits and signs",
        "4 characters, letters",
        "4 characters, letters",
        "nothing",
    ]
    assert aside.select("file", "row").n_unique() == 3
    assert len(pl.read_csv(tmp_path / "out.csv", infer_schema=False)) == 897


def test_too_many_bad_rows_break_the_contract(table, tmp_path, score_file):
    broken = table.with_columns(amount=pl.lit("much"))
    broken.write_csv(tmp_path / "in.csv")
    with pytest.raises(DataContractError, match="row 0, column amount: found 4 char"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("secret", ["4392270733198763", "C00001", "anna@ex.org", "DE 44 5001"])
@pytest.mark.parametrize("columns", [["time"], ["amount", "time", "fraud"]])
def test_no_identifier_reaches_a_message_or_the_list_of_bad_rows(
    table, tmp_path, score_file, secret, columns
):
    slipped = [pl.lit(secret).alias(column) for column in columns]
    table.with_columns(slipped).write_csv(tmp_path / "in.csv")
    with pytest.raises(DataContractError, match=r"row 0, column \w+: found .* characters") as e:
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert secret not in str(e.value)
    pl.concat([table, table.head(1).with_columns(slipped)]).write_csv(tmp_path / "in.csv")
    score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert secret not in (tmp_path / "out.csv.set_aside.csv").read_text()


def test_a_file_without_a_header_does_not_show_its_first_row(table, tmp_path, score_file):
    table.write_csv(tmp_path / "in.csv", include_header=False)
    with pytest.raises(DataContractError, match=r"none of the columns.* and 10 others") as error:
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not any(cell in str(error.value) for cell in table.row(0) if len(cell or "") > 2)


def test_fields_separated_by_other_signs_are_told(table, tmp_path, score_file):
    table.write_csv(tmp_path / "in.csv", separator=";")
    with pytest.raises(DataContractError, match="other signs than commas"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")


def test_repeated_ids_are_set_aside(table, tmp_path, score_file):
    pl.concat([table, table.head(2)]).write_csv(tmp_path / "in.csv")
    summary = score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert summary.reasons == {"bad transaction_id": 2}


def test_history_is_context_and_gives_the_scores_of_one_file(config, tmp_path, score_file):
    table = pl.read_parquet(config.data.path).head(900)
    table.write_parquet(tmp_path / "all.parquet")
    table.head(300).write_parquet(tmp_path / "h1.parquet")
    table[300:600].write_parquet(tmp_path / "h2.parquet")
    table.tail(300).write_parquet(tmp_path / "in.parquet")
    score_file(tmp_path / "all.parquet", tmp_path / "whole.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "out.parquet", tmp_path / "h*.parquet")
    whole, out = (pl.read_parquet(tmp_path / n) for n in ("whole.parquet", "out.parquet"))
    assert len(out) == 300
    np.testing.assert_allclose(out["fraud_score"], whole["fraud_score"].tail(300), atol=1e-5)


def test_missing_columns_and_files_say_what_is_there(table, tmp_path, score_file):
    table.drop("amount").write_csv(tmp_path / "in.csv")
    with pytest.raises(DataContractError, match="no column amount; the file has transaction_id"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    with pytest.raises(ConfigError, match=r"input: found no file at .*nowhere\.csv"):
        score_file(tmp_path / "nowhere.csv", tmp_path / "out.csv")


def test_labels_are_not_needed_to_score(table, tmp_path, score_file):
    table.drop("fraud").write_csv(tmp_path / "in.csv")
    assert score_file(tmp_path / "in.csv", tmp_path / "out.csv").scored == 900


def test_history_may_have_brackets_in_its_name_but_must_be_there(
    config, tmp_path, score_file, scorer_of
):
    table = pl.read_parquet(config.data.path)
    table.head(300).write_parquet(tmp_path / "h[1].parquet")
    table[300:400].write_parquet(tmp_path / "in.parquet")
    scorer = scorer_of(tmp_path / "in.parquet", tmp_path / "h[1].parquet")
    scorer.prepare(tmp_path)
    assert scorer.facts.context == 300
    with pytest.raises(ConfigError, match=r"history: found no file .*none"):
        score_file(tmp_path / "in.parquet", tmp_path / "out.parquet", tmp_path / "none*.csv")


def test_fingerprint_changes_with_the_history(config, tmp_path, scorer_of):
    table = pl.read_parquet(config.data.path)
    table[300:400].write_parquet(tmp_path / "in.parquet")
    found = {scorer_of(tmp_path / "in.parquet").source.fingerprint()}
    assert found == {hashlib.sha256((tmp_path / "in.parquet").read_bytes()).hexdigest()}
    for rows in (100, 200):
        table.head(rows).write_parquet(tmp_path / "h.parquet")
        source = scorer_of(tmp_path / "in.parquet", tmp_path / "h*.parquet").source
        found |= {source.fingerprint(), source.fingerprint()}
    assert len(found) == 3


def test_bad_rows_of_input_and_history_are_told_apart(table, tmp_path, scorer_of):
    broken = table.with_columns(
        amount=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("")).otherwise("amount")
    )
    for name in ("in.csv", "h1.csv", "h2.csv"):
        broken.write_csv(tmp_path / name)
    scorer = scorer_of(tmp_path / "in.csv", tmp_path / "h*.csv")
    with pytest.raises(DataContractError, match="history: found events later than the first row"):
        scorer.prepare(tmp_path)
    early = pl.read_csv(tmp_path / "in.csv", infer_schema=False)
    early = early.with_columns(pl.col("time").str.replace("2024", "2023"))
    for name in ("h1.csv", "h2.csv"):
        early.write_csv(tmp_path / name)
    scorer_of(tmp_path / "in.csv", tmp_path / "h*.csv").prepare(tmp_path)
    aside = pl.read_parquet(tmp_path / "stream" / "set_aside.parquet")
    assert (len(aside), aside.select("file", "row").n_unique()) == (3, 3)


def test_outputs_that_cannot_be_written_are_refused_before_scoring(config, tmp_path, scorer_of):
    table = pl.read_parquet(config.data.path).head(20)
    table.write_parquet(tmp_path / "in.parquet")
    scorer = scorer_of(tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match=r"found o3\.txt, expected a name in \.parquet, \.csv"):
        scorer.check(tmp_path / "o3.txt")
    scorer.check(tmp_path / "out.CSV")
    holds = {".csv": "", ".csv.gz": "", ".jsonl": "lsd", ".ndjson.zst": "lsd", ".parquet": "lsdb"}
    odd = {"l": pl.lit([1]), "s": pl.struct("amount"), "d": pl.lit(timedelta(1)), "b": pl.lit(b"x")}
    for kind, column in odd.items():
        table.with_columns(odd=column).write_parquet(tmp_path / "in.parquet")
        scorer = scorer_of(tmp_path / "in.parquet")
        for end, kinds in holds.items():
            if kind in kinds:
                scorer.check(tmp_path / f"out{end}")
                continue
            with pytest.raises(ConfigError, match="1 columns of a kind that it cannot hold"):
                scorer.check(tmp_path / f"out{end}")


def test_latin_1_is_told_to_become_utf_8(table, tmp_path, score_file):
    text = table.with_columns(remark=pl.lit("café")).write_csv()
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataContractError, match="not UTF-8"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv")


def test_scores_of_a_broken_calibration_are_refused(table, tmp_path, scorer_of):
    table.write_csv(tmp_path / "in.csv")
    scorer = scorer_of(tmp_path / "in.csv")
    scorer.calibration = Calibration("platt", float("nan"), 0.0)
    with pytest.raises(LongstrandError, match="900 of 900 scores are not finite"):
        scorer.score(scorer.prepare(tmp_path)[0], None)


def test_what_workers_share_holds_no_identifier_and_no_hash_of_one(table, tmp_path, scorer_of):
    table.write_csv(tmp_path / "in.csv")
    scorer_of(tmp_path / "in.csv").prepare(tmp_path)
    held = b"".join(p.read_bytes() for p in sorted((tmp_path / "stream").iterdir()))
    for card in table["card_id"]:
        assert card.encode() not in held
        assert hashlib.blake2b(card.encode(), digest_size=8).digest() not in held
    assert oct((tmp_path / "stream").stat().st_mode)[-3:] == "700"


@pytest.fixture
def few(table):
    """Of five cards."""
    return table.filter(pl.col("card_id").is_in(table["card_id"].unique().sort()[:5].implode()))


@pytest.fixture
def folder(few, tmp_path):
    """Hive folders by card, whose time orders interleave; the card stands in the path alone."""
    for (card,), rows in few.group_by("card_id", maintain_order=True):
        part = tmp_path / "in" / f"card_id={card}"
        part.mkdir(parents=True)
        rows.drop("card_id").write_csv(part / "part-0.csv")
    (tmp_path / "in" / "_SUCCESS").touch()
    return tmp_path / "in"


def test_a_folder_gives_the_same_files_and_the_scores_of_one_file(
    folder, few, tmp_path, score_file
):
    # Events of one time keep the order of rows, so the file has them in the order of the folder.
    few.sort("card_id", maintain_order=True).write_csv(tmp_path / "in.csv")
    score_file(tmp_path / "in.csv", tmp_path / "one.csv")
    for _ in range(2):
        summary = score_file(folder, tmp_path / "out")
    assert (summary.rows, summary.scored, summary.files) == (
        len(few),
        len(few),
        [str(tmp_path / "out")],
    )
    one = pl.read_csv(tmp_path / "one.csv", infer_schema=False)
    names, written = (
        sorted(str(path.relative_to(root)) for path in root.rglob("*.csv"))
        for root in (folder, tmp_path / "out")
    )
    assert names == written
    for name in names:
        part = pl.read_csv(tmp_path / "out" / name, infer_schema=False)
        given = pl.read_csv(folder / name, infer_schema=False)
        assert part.select(given.columns).equals(given)
        both = part.join(one, on="transaction_id", how="inner", maintain_order="left")
        assert len(both) == len(part)
        np.testing.assert_allclose(
            both["fraud_score"].cast(float), both["fraud_score_right"].cast(float), atol=1e-5
        )


def test_bad_rows_of_a_folder_are_told_by_file_and_row(folder, few, tmp_path, score_file):
    first, last = sorted(folder.rglob("*.csv"))[:: len(list(folder.rglob("*.csv"))) - 1]
    rows = pl.read_csv(last, infer_schema=False)
    twice = pl.read_csv(first, infer_schema=False).head(1)
    pl.concat([rows, twice]).write_csv(last)
    summary = score_file(folder, tmp_path / "out")
    assert (summary.rows, summary.scored) == (len(few) + 1, len(few))
    aside = pl.read_csv(tmp_path / "out.set_aside.csv")
    assert aside.select("file", "row", "column").rows() == [
        (str(last), len(rows), "transaction_id")
    ]


def test_a_folder_is_not_written_over_other_files_or_into_itself(folder, tmp_path, scorer_of):
    scorer = scorer_of(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"holds 1 files .* such as letter\.txt"):
        scorer.check(tmp_path / "out")
    for name in (folder / "out", tmp_path):
        with pytest.raises(ConfigError, match="lie in each other"):
            scorer.check(name)
    with pytest.raises(ConfigError, match="found no file in"):
        scorer_of(tmp_path / "out")


@pytest.mark.parametrize("pattern", ["*[02468]", "*[02468]/*.csv", "**/*[13579]/part*", "*"])
def test_a_pattern_is_scored_as_the_folder_of_what_it_names(folder, tmp_path, score_file, pattern):
    """By folder names, file names or both; `_SUCCESS` is not looked at."""
    named = [p for p in folder.glob(pattern) if p.name != "_SUCCESS"]
    files = {file for p in named for file in (p.rglob("*.csv") if p.is_dir() else [p])}
    for file in files:
        copy = tmp_path / "copy" / file.relative_to(folder)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(file.read_bytes())
    whole = score_file(tmp_path / "copy", tmp_path / "of_folder")
    summary = score_file(folder / pattern, tmp_path / "of_pattern")
    assert 0 < summary.scored == whole.scored
    places = [
        p.relative_to(tmp_path / "of_folder") for p in (tmp_path / "of_folder").rglob("*.csv")
    ]
    assert len(places) == len(files)
    for place in places:
        expected = (tmp_path / "of_folder" / place).read_bytes()
        assert (tmp_path / "of_pattern" / place).read_bytes() == expected


def test_the_scores_of_a_pattern_may_lie_beside_its_files_but_not_among_them(
    folder, tmp_path, score_file, scorer_of
):
    score_file(folder / "*" / "*.csv", folder / "scored")
    for out in (tmp_path, next(folder.glob("card*"))):
        with pytest.raises(ConfigError, match="lie in each other"):
            scorer_of(folder / "card*" / "*.csv").check(out)
    (folder / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"letter\.txt: found suffix"):
        scorer_of(folder / "*")
    with pytest.raises(ConfigError, match=r"input: found no file at .*\.xls"):
        scorer_of(folder / "*.xls")
