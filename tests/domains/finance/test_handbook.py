"""The real files keep to their ready schemas."""

from __future__ import annotations

from dataclasses import replace

from domains.finance import domain
from domains.finance.config import FinanceConfig, FinanceData, Split


def test_handbook_test_rows_and_frauds_are_those_of_the_protocol(handbook):
    config = replace(
        FinanceConfig(),
        data=FinanceData("files", str(handbook), "handbook"),
        split=Split("2018-08-01", "2018-08-08", "2018-10-01", 5),
    )
    source = domain.open(config, "train")
    (fold,) = domain.task(config).folds(source)
    test = source.events.filter(source.events["row"].is_in(fold.test.implode()))
    assert (len(test), test["label"].sum()) == (517_457, 4_590)
    assert source.set_aside().collect().is_empty()
