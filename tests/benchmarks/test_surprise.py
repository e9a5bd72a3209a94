"""The benchmark without labels: what rivals read, and a whole run."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import surprise
from benchmarks.fraud_features import Events, table
from benchmarks.fraud_protocols import configured, opened


def test_features_of_rivals_read_no_label():
    with opened(configured(surprise.QUICK)) as (_, source):
        events = Events.of(source)
    turned = Events(events.time, events.amount, 1 - events.fraud, events.card, events.terminal)
    features = surprise.unlabelled_features(events)
    assert len(features) == 24
    assert np.array_equal(table(features), table(surprise.unlabelled_features(turned)))
    assert np.isfinite(table(features)).all()


def test_a_quick_run_puts_ours_beside_detectors_and_rules(tmp_path, capsys):
    models = "ours,isolation_forest_15,ecod_24,amount_z"
    surprise.benchmark(surprise.Settings(models, quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "surprise.json").read_text())["rows"]
    main = {r["model"]: r for r in rows if r["metric"] == "average_precision"}
    assert set(main) == set(models.split(","))
    assert all(r["low"] <= r["value"] <= r["high"] for r in rows if r["metric"] != "roc_auc")
    assert {r["metric"] for r in rows} == set(surprise.FIGURES)
    assert "ecod_24" in capsys.readouterr().out
