"""report.html of a retraining: the verdict, the drift, and the champion against the first model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.contract import Panel
from pipelines.report import Table, write_report
from pipelines.retrain.gate import Verdict
from pipelines.retrain.job import Job
from pipelines.retrain.rows import weekly
from pipelines.retrain.work import both, figures

if TYPE_CHECKING:
    import polars as pl

HEADING = "Challenger (ours) and champion on the newest rows with known labels"
NOTE = "Neither model has learned from these rows."
SHOWN = 4000


def write_page(job: Job, verdict: Verdict) -> dict[str, Any]:
    """Write the page; the weekly figures, where there are any."""
    weeks = weekly(job, verdict.metric)
    drift = job.stages.read("drift") if job.champion is not None else []
    tables = [_verdict(job, verdict)]
    panels = []
    if drift:
        tables.append(_drift(job, drift))
        panels += [_psi(drift), _scores(job)]
    if weeks is not None:
        tables.insert(1, _weeks(weeks, verdict.metric))
        panels.insert(0, _weekly_panel(weeks, verdict.metric))
    panels += job.task.panels(job.source, both(job)[1])
    manifest = {"created": f"{job.day}", "fingerprint": job.source.fingerprint()}
    title = f"{job.name}: retraining as of {job.day}"
    path = job.folder / "report.html"
    write_report(path, title, manifest, figures(job), panels, tables, HEADING, NOTE)
    return {"weeks": [] if weeks is None else _plain(weeks)}


def _plain(weeks: pl.DataFrame) -> list[dict[str, Any]]:
    import polars as pl

    return weeks.with_columns(pl.col("week").cast(pl.String)).to_dicts()


def _verdict(job: Job, verdict: Verdict) -> Table:
    said = "better" if verdict.better else "kept out"
    champion = job.champion.version.label if job.champion else "none"
    head = ["compared by", f"champion {champion}", "challenger", "difference", "interval"]
    rows = [
        [
            c.name if i < 2 else f"{verdict.metric} on {c.name}",
            f"{c.champion:.4f}",
            f"{c.challenger:.4f}",
            f"{c.gain:+.4f}",
            f"{c.low:+.4f} to {c.high:+.4f}",
        ]
        for i, c in enumerate(verdict.comparisons)
    ]
    if not rows:
        rows = [[verdict.metric, "", f"{verdict.value:.4f}", "", ""]]
    caption = (
        f"{verdict.reason}. Intervals of the difference: {job.gate.confidence:.0%}, by a bootstrap "
        "that draws the same groups for both."
    )
    return Table(f"Verdict: challenger {said}", head, rows, frozenset([0]), caption)


def _weeks(weeks: pl.DataFrame, metric: str) -> Table:
    rows = [
        [
            str(week),
            f"{first:.4f}",
            f"{champion:.4f}",
            f"{champion - first:+.4f}",
            str(count),
            versions,
        ]
        for week, champion, first, count, versions in weeks.iter_rows()
    ]
    head = ["week from", "frozen first version", "champion", "difference", "rows", "versions"]
    caption = (
        f"{metric} of rows since the first retraining whose labels are known by now. The champion "
        "of a row is the version in use when the row came; the frozen model is the first version, "
        "never retrained."
    )
    return Table("Champion against the frozen first version, by week", head, rows, caption=caption)


def _weekly_panel(weeks: pl.DataFrame, metric: str) -> Panel:
    import polars as pl

    parts = [
        weeks.select(
            pl.col("week").cast(pl.String), pl.col(column).alias(metric), model=pl.lit(name)
        )
        for column, name in (("first", "frozen"), ("champion", "champion"))
    ]
    title = "Champion against the frozen first version"
    return Panel(title, "bar", pl.concat(parts), "week", metric, series="model")


def _drift(job: Job, drift: list[dict[str, Any]]) -> Table:
    head = ["field", "PSI", "", "KS", "missing before", "now", "mean before", "now", "rows now"]
    rows = [
        [
            d["field"],
            _number(d["psi"]),
            d["level"],
            _number(d["ks"]),
            f"{d['missing_before']:.2%}",
            f"{d['missing']:.2%}",
            _number(d["mean_before"]),
            _number(d["mean"]),
            str(d["rows"]),
        ]
        for d in drift
    ]
    scores = job.stages.read("scores")
    caption = (
        f"{scores['served']} rows since the last retraining, against those that the champion was "
        "trained on (its score: against held-out ones). `label` is of the newest rows whose labels "
        "are known by now; its mean is the label rate."
    )
    strong = frozenset(i for i, d in enumerate(drift) if d["level"] == "drifted")
    return Table("Drift since the champion was trained", head, rows, strong, caption)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _psi(drift: list[dict[str, Any]]) -> Panel:
    import polars as pl

    known = [(d["field"], d["psi"]) for d in drift if d["psi"] is not None]
    data = pl.DataFrame(known, schema=["field", "PSI"], orient="row").sort("PSI", descending=True)
    caption = "Above 0.1 a field has moved, above 0.25 it has drifted."
    return Panel("Drift by field", "bar", data.head(12), "field", "PSI", caption=caption)


def _scores(job: Job) -> Panel:
    """The champion's raw scores before and now; before are the quantiles that its bundle holds."""
    import polars as pl

    assert job.champion is not None
    before = [r for r in job.champion.bundle.reference if r["field"] == "score"]
    now = pl.read_parquet(job.folder / "champion.parquet").select("score")
    now = now.sample(min(SHOWN, len(now)), seed=0)
    parts = [
        pl.DataFrame({"score": r["quantiles"]}).with_columns(rows=pl.lit("before")) for r in before
    ]
    data = pl.concat([*parts, now.with_columns(rows=pl.lit("now"))])
    return Panel("The champion's scores", "histogram", data, "score", series="rows")
