"""The audit record keeps every line whole, once, whatever kills its writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.retrain import audit


def test_a_line_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        audit.record(path, "judged", "run-1", {"promote": True})
    audit.record(path, "promoted", "run-1", {})
    assert [line["event"] for line in audit.read(path)] == ["judged", "promoted"]


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit.record(path, "judged", "run-1", {})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at": "2024-')
    assert len(list(audit.read(path))) == 1
    audit.record(path, "kept", "run-1", {})
    assert path.read_bytes().startswith(whole + b'{"at"')
    assert [line["event"] for line in audit.read(path)] == ["judged", "kept"]


def test_whoever_started_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(audit.WHO, "nightly@batch")
    audit.record(tmp_path / "audit.jsonl", "judged", "run-1", {})
    assert next(audit.read(tmp_path / "audit.jsonl"))["who"] == "nightly@batch"
