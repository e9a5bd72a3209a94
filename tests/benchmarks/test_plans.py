"""The benchmark of building plans, at a size that tells nothing about speed."""

import json

import pytest

from benchmarks import plans
from core.attention import Pattern


def test_a_quick_run_builds_a_plan_of_every_pattern(tmp_path, capsys):
    plans.run(plans.Settings(quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "plans.json").read_text())["rows"]
    assert [r["pattern"] for r in rows] == [*plans.patterns(1024)]
    for row in rows:
        assert row["share"] == pytest.approx(row["build_seconds"] / row["forward_seconds"])
        assert row["build_seconds"] > 0 and row["repeats"] == plans.REPEATS
    assert "share" in capsys.readouterr().out


def test_no_two_builds_are_of_one_length(monkeypatch):
    asked, plan = list[int](), Pattern.plan

    def seen(self, q, kv, *more):
        asked.append(len(q))
        return plan(self, q, kv, *more)

    monkeypatch.setattr(Pattern, "plan", seen)
    list(plans.measure(["window"], 1024))
    assert len(asked) == plans.REPEATS + 1 == len(set(asked))
