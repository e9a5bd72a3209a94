"""The report is one page that parses, escapes what it is given, and draws what it is told."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from core.contract import Metric, Panel
from pipelines.report import write_report
from pipelines.svg import draw

FRAME = pl.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.5, None, 2.0], "s": list("ppqq")})


@pytest.mark.parametrize("kind", ["line", "bar", "histogram", "scatter"])
@pytest.mark.parametrize("series", [None, "s"])
def test_every_chart_is_well_formed(kind: str, series: str | None) -> None:
    data = FRAME if kind != "bar" else FRAME.drop_nulls()
    svg = ET.fromstring(draw(Panel("A < B", kind, data, "a", "b", series)))  # type: ignore[arg-type]
    marks = svg.findall(".//circle") + svg.findall(".//rect") + svg.findall(".//path[@stroke]")
    assert marks


def test_a_bar_is_as_high_as_its_value() -> None:
    data = pl.DataFrame({"name": ["x", "y"], "value": [1.0, 3.0]})
    svg = ET.fromstring(draw(Panel("t", "bar", data, "name", "value")))
    low, high = (float(r.get("height", 0)) for r in svg.findall(".//rect"))
    assert high / low == pytest.approx(3.0, abs=0.02)


def test_names_under_bars_never_overlap() -> None:
    weeks = [f"2018-08-{d:02d}" for d in range(1, 13)]
    data = pl.DataFrame({"week": weeks, "value": [1.0] * 12})
    svg = ET.fromstring(draw(Panel("t", "bar", data, "week", "value")))
    at = [float(t.get("x", 0)) for t in svg.findall(".//text") if (t.text or "").startswith("20")]
    assert len(at) >= 2
    assert min(b - a for a, b in itertools.pairwise(at)) >= 10 * 6


def test_the_page_lists_each_metric_beside_its_floor_and_escapes_names(tmp_path: Path) -> None:
    metrics = [
        Metric("d", "p", "floor<b>", "ap", 0.2, 0.1, 0.3),
        Metric("d", "p", "ours", "ap", 0.5, 0.4, 0.6),
    ]
    manifest = {"created": "now", "fingerprint": "f"}
    write_report(tmp_path / "report.html", "T", manifest, metrics, [])
    page = (tmp_path / "report.html").read_text()
    assert page.index("<td>ours</td>") < page.index("floor&lt;b&gt;")
    assert "http" not in page


def test_days_under_a_line_are_dates_that_never_overlap() -> None:
    days = [date(2024, 1, 1) + timedelta(days=7 * k) for k in range(40)]
    data = pl.DataFrame({"day": days, "value": [float(k) for k in range(40)]})
    svg = ET.fromstring(draw(Panel("t", "line", data, "day", "value")))
    named = [t for t in svg.findall(".//text") if (t.text or "").startswith("2024-")]
    assert named[0].text == "2024-01-01"
    at = [float(t.get("x", 0)) for t in named]
    assert len(at) >= 2
    assert min(b - a for a, b in itertools.pairwise(at)) >= 10 * 6


def test_a_panel_may_be_a_table(tmp_path: Path) -> None:
    data = pl.DataFrame({"row": ["1,204"], "found": ["<b>"]})
    panel = Panel("Most surprising", "table", data, caption="Rows count from 0.")
    manifest = {"created": "2026-01-01T00:00:00+00:00", "fingerprint": "abc"}
    write_report(tmp_path / "report.html", "t", manifest, [], [panel])
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Most surprising</h2>" in page and "Rows count from 0." in page
    assert "<td>1,204</td><td>&lt;b&gt;</td>" in page
