"""The ablation: each part adds one thing to the one before it, on rows that no figure is of."""

from __future__ import annotations

from datetime import date

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from benchmarks.fraud_ablation import MODEL, PARTS, SPLIT, rows_of
from benchmarks.fraud_protocols import HANDBOOK, configured
from pipelines import build
from pipelines.cli import CONF
from pipelines.schema import register_schemas
from tests.benchmarks.test_fraud import scored


@pytest.fixture(scope="module")
def configs():
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {
            name: compose("train", ["domain=finance", *SPLIT, *overrides])
            for name, overrides in PARTS.items()
        }


def test_each_part_adds_one_thing(configs):
    views = {n: build.domain_config(config.domain).views for n, config in configs.items()}
    model = configured(HANDBOOK[0]).views
    assert views[MODEL] == views["dense"] == model
    assert [view.key for view in views["terminal"]] == [view.key for view in model]
    assert not any(view.labels for view in views["terminal"])
    assert views["card"] == views["terminal"][:1]
    whole = {n: build.pattern(c.attention).reach() is None for n, c in configs.items()}
    assert whole == {"card": False, "terminal": False, MODEL: False, "dense": True}


def test_the_test_rows_of_the_benchmark_stay_unseen(configs):
    judged_from = date.fromisoformat(configured(HANDBOOK[0]).split.test_from)
    for config in configs.values():
        split = build.domain_config(config.domain).split
        assert date.fromisoformat(split.test_until) < judged_from


def test_differences_are_from_the_model():
    frames = {"card": scored(0.9), MODEL: scored(0.5)}
    rows = list(rows_of("here", frames, {"card": 1.0, MODEL: None}))
    assert [row["model"] for row in rows] == ["card"] * 4 + [MODEL] * 4 + [f"card - {MODEL}"]
    assert rows[-1]["value"] == pytest.approx(rows[0]["value"] - rows[4]["value"])
    assert rows[-1]["high"] < 0
