"""The look-up of reasons in the file tells true ones from false."""

from __future__ import annotations

import polars as pl
import pytest

from benchmarks.fraud_reasons import Facts, counted
from domains.finance.labelled import TransactionSource
from domains.finance.schema import parse_schema

SCHEMA = {
    "id": "id",
    "time": "t",
    "amount": "amount",
    "entities": {"customer": "card", "terminal": "place"},
    "label": "fraud",
    "kind": "kind",
    "label_delay": "7d",
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Twelve days of one card, the last payment large; the terminal's first two are frauds."""
    path = tmp_path_factory.mktemp("file") / "rows.csv"
    pl.DataFrame(
        {
            "id": range(12),
            "t": [f"2024-03-{day:02d} 12:00" for day in range(1, 13)],
            "amount": [*(10.0 + i for i in range(11)), 60.0],
            "card": ["c"] * 12,
            "place": ["a", "b"] * 6,
            "fraud": [0, 1, 0, 1, *[0] * 7, 1],
            "kind": ["0", "2", "0", "2", *["0"] * 7, "3"],
        }
    ).write_csv(path)
    source = TransactionSource(path, parse_schema("test", SCHEMA))
    return Facts(source, {"customer": 5, "terminal": 64})


TRUE = "amount: 60.00, 3.2 times this customer's usual 18.50"
LABELS = "terminal labels: 2 confirmed frauds among the last 5, 8 to 10 days ago"
HISTORY = "customer history: 1 in the last day, 4 in 14 days"


def test_a_reason_is_confirmed_where_every_number_is_what_the_file_says(facts):
    assert facts.confirms(TRUE, 11)
    assert not facts.confirms(TRUE.replace("18.50", "17.50"), 11)
    assert not facts.confirms(TRUE.replace("60.00", "61.00"), 11)
    assert facts.confirms(LABELS, 11)
    assert not facts.confirms(LABELS.replace("2 conf", "1 conf"), 11)
    assert not facts.confirms(LABELS.replace("10 days", "9 days"), 11)
    # A day is less than 24 hours ago.
    assert facts.confirms(HISTORY.replace(": 1", ": 0"), 11)
    assert not facts.confirms(HISTORY, 11)
    assert facts.confirms("hour: 12 o'clock", 11) is None


def test_first_reasons_are_counted_by_kind_and_all_of_them_by_code(facts):
    drawn = pl.DataFrame(
        {"place": [11, 10], "kind": ["3", "0"], "reasons": [[TRUE, LABELS], [TRUE]]}
    )
    assert list(counted(drawn, facts)) == [
        {"kind": "0", "code": "amount", "alerts": 1},
        {"kind": "3", "code": "amount", "alerts": 1},
        {"kind": "any", "code": "amount", "reasons": 2, "confirmed": 1},
        {"kind": "any", "code": "terminal labels", "reasons": 1, "confirmed": 1},
    ]
