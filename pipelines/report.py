"""report.html: one file that opens offline, metrics beside their floors and a few charts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.contract import Metric, Panel
from pipelines.model_card import in_order
from pipelines.runs import write_text
from pipelines.svg import draw

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d2326; margin: 2rem auto; max-width: 1120px;
  padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .3rem .9rem .3rem 0; text-align: left; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
tr {{ border-bottom: 1px solid #e3e6e8; }} tr.ours td {{ font-weight: 600; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1.5rem; }}
figure {{ margin: 0; }} figcaption {{ font-size: .85rem; color: #566; }}
svg {{ width: 100%; height: auto; }} svg text {{ font-size: 11px; fill: #455; }}
.axis {{ stroke: #455; fill: none; }} .grid path.grid, path.grid {{ stroke: #e8ebed; fill: none; }}
code {{ background: #f2f4f5; padding: .1rem .3rem; }}
</style></head><body>
<h1>{title}</h1>
<p>Run of {created}. Data <code>{fingerprint}</code>.</p>
<h2>{heading}</h2>
{table}
<p>Intervals are 95 %. {note}</p>
{tables}
<h2>Charts</h2>
<div class="grid">
{figures}
</div>
</body></html>
"""


HEADING = "Held-out figures beside their floors"
FLOORS = "A floor is a model that takes no learning worth the name, measured on the same rows."


@dataclass(frozen=True)
class Table:
    """A table of the page beside that of metrics; rows whose place is in `strong` stand out."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    caption: str = ""


def write_report(
    path: Path,
    title: str,
    manifest: Mapping[str, Any],
    metrics: Sequence[Metric],
    panels: Sequence[Panel],
    tables: Sequence[Table] = (),
    heading: str = HEADING,
    note: str = FLOORS,
) -> None:
    """Write the page whole or not at all.

    Args:
        heading, note: above and below the table of metrics.
    """
    listed = [panel for panel in panels if panel.kind == "table"]
    page = _PAGE.format(
        title=html.escape(title),
        created=html.escape(manifest["created"]),
        fingerprint=html.escape(manifest["fingerprint"]),
        heading=html.escape(heading),
        note=html.escape(note),
        table=_table(metrics),
        tables="\n".join(_other_table(t) for t in [*tables, *map(_as_table, listed)]),
        figures="\n".join(_figure(p) for p in panels if p.kind != "table"),
    )
    write_text(path, page)


def _table(metrics: Sequence[Metric]) -> str:
    head = "<tr><th>data</th><th>protocol</th><th>metric</th><th>model</th><th>value</th>"
    rows = [head + "<th>interval</th></tr>"]
    for m in in_order(metrics):
        names = "".join(
            f"<td>{html.escape(v)}</td>" for v in (m.data, m.protocol, m.metric, m.model)
        )
        figures = f"<td class='n'>{m.value:.4f}</td><td class='n'>{m.low:.4f} to {m.high:.4f}</td>"
        rows.append(f"<tr class='{'ours' if m.model == 'ours' else 'floor'}'>{names}{figures}</tr>")
    return "<table>" + "\n".join(rows) + "</table>"


def _other_table(table: Table) -> str:
    rows = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in table.head) + "</tr>"]
    for place, row in enumerate(table.rows):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        rows.append(f"<tr{' class=ours' if place in table.strong else ''}>{cells}</tr>")
    body = "\n".join(rows)
    title, caption = html.escape(table.title), html.escape(table.caption)
    return f"<h2>{title}</h2>\n<table>{body}</table>\n<p>{caption}</p>"


def _as_table(panel: Panel) -> Table:
    rows = [[str(cell) for cell in row] for row in panel.data.iter_rows()]
    return Table(panel.title, panel.data.columns, rows, caption=panel.caption)


def _figure(panel: Panel) -> str:
    return (
        f"<figure><h3>{html.escape(panel.title)}</h3>{draw(panel)}"
        f"<figcaption>{html.escape(panel.caption)}</figcaption></figure>"
    )
