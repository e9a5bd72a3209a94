"""Small inline SVG charts for reports: line, bar, histogram, scatter. No script, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.contract import Panel

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46
LETTER = 6.5  # width of a character in pixels, about
LEGEND = 0.2  # share of the height that bars leave to the names of their series
LINE = 16  # height of a line of the legend
FEW = 60  # points up to this many are drawn large
PALETTE = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f", "#c98a1b", "#5b5f62")


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round values."""
        raw = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(raw))
        step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def draw(panel: Panel) -> str:
    """The panel as one <svg>; a panel without finite data says so instead of drawing axes."""
    draws: dict[str, Callable[[Panel], str]] = {
        "line": _points,
        "scatter": _points,
        "bar": _bars,
        "histogram": _histogram,
    }
    if panel.data.height == 0:
        return "<p class='empty'>No data for this chart.</p>"
    body = draws[panel.kind](panel)
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' "
        f"aria-label='{html.escape(panel.title, quote=True)}'>{body}</svg>"
    )


def _series(panel: Panel) -> list[tuple[str, pl.DataFrame]]:
    if panel.series is None:
        return [("", panel.data)]
    names = panel.data[panel.series].unique(maintain_order=True).to_list()
    return [(str(n), panel.data.filter(pl.col(panel.series) == n)) for n in names]


def _span(values: Sequence[float], include_zero: bool = False) -> tuple[float, float]:
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if include_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    margin = 0.04 * (high - low)
    return (low if include_zero and low == 0 else low - margin), high + margin


Ticks = Sequence[tuple[float, str]]


def _axes(x: Axis | None, y: Axis, x_name: str, y_name: str, named: Ticks | None = None) -> str:
    """Axes with round numbers, or with the ticks `named` below."""
    parts = [f"<path class='axis' d='M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}'/>"]
    for value in y.ticks():
        at = y(value)
        parts.append(f"<path class='grid' d='M{LEFT} {at:.1f}H{WIDTH - RIGHT}'/>")
        parts.append(f"<text x='{LEFT - 6}' y='{at + 4:.1f}' text-anchor='end'>{value:g}</text>")
    round_numbers = [(v, f"{v:g}") for v in x.ticks()] if x and named is None else []
    for value, text in named or round_numbers:
        at, foot = x(value), HEIGHT - BOTTOM + 16  # type: ignore[misc]
        parts.append(f"<text x='{at:.1f}' y='{foot}' text-anchor='middle'>{text}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f"<text x='{middle}' y='{HEIGHT - 8}' text-anchor='middle'>{html.escape(x_name)}</text>"
    )
    parts.append(
        f"<text transform='translate(14 {HEIGHT / 2}) rotate(-90)' text-anchor='middle'>"
        f"{html.escape(y_name)}</text>"
    )
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    parts = []
    for i, name in enumerate(n for n in names if n):
        y = TOP + 8 + LINE * i
        color = PALETTE[i % len(PALETTE)]
        parts.append(f"<rect x='{WIDTH - 150}' y='{y - 8}' width='10' height='10' fill='{color}'/>")
        parts.append(f"<text x='{WIDTH - 134}' y='{y + 1}'>{html.escape(name)}</text>")
    return "".join(parts)


def _points(panel: Panel) -> str:
    named = _days(panel.data[panel.x]) if panel.data.schema[panel.x] == pl.Date else None
    numbers = (pl.col(panel.x).to_physical().cast(pl.Float64), pl.col(panel.y).cast(pl.Float64))
    data = panel.data.with_columns(*numbers).drop_nulls()
    panel = Panel(**{**vars(panel), "data": data})
    x = Axis(*_span(data[panel.x].to_list()), LEFT, WIDTH - RIGHT)
    series = _series(panel)
    low, high = _span(data[panel.y].to_list())
    # Lines of a legend that the curves would otherwise run through.
    room = (high - low) * LINE * len(series) / (HEIGHT - TOP - BOTTOM) if panel.series else 0.0
    y = Axis(low, high + room, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, panel.x, panel.y, named)]
    for i, (_, frame) in enumerate(series):
        color = PALETTE[i % len(PALETTE)]
        places = [
            (x(a), y(b))
            for a, b in zip(frame[panel.x], frame[panel.y], strict=True)
            if math.isfinite(a) and math.isfinite(b)
        ]
        if panel.kind == "line":
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
            parts.append(f"<path d='{path}' fill='none' stroke='{color}' stroke-width='1.8'/>")
        else:
            size, opacity = ("3.5", ".9") if len(places) <= FEW else ("1.6", ".35")
            parts += [
                f"<circle cx='{a:.1f}' cy='{b:.1f}' r='{size}' fill='{color}' "
                f"fill-opacity='{opacity}'/>"
                for a, b in places
            ]
    return "".join([*parts, _legend([n for n, _ in series])])


def _days(days: pl.Series) -> Ticks:
    """Some of the days, so that none lies on another."""
    shown = days.unique().sort()
    fitting = int((WIDTH - RIGHT - LEFT) / (len("2024-03-01") * LETTER)) - 1
    every = max(1, math.ceil(len(shown) / fitting))
    return [(float(day), str(name)) for day, name in zip(shown.to_physical(), shown, strict=True)][
        ::every
    ]


def _bars(panel: Panel) -> str:
    labels = [str(v) for v in panel.data[panel.x].unique(maintain_order=True)]
    series = _series(panel)
    low, high = _span(panel.data[panel.y].cast(pl.Float64).to_list(), True)
    room = LEGEND * (high - low) * (panel.series is not None)
    y = Axis(low, high + room, HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - RIGHT - LEFT) / len(labels)
    bar = 0.8 * slot / len(series)
    parts = [_axes(None, y, panel.x, panel.y)]
    for i, (_, frame) in enumerate(series):
        for label, value in zip(frame[panel.x], frame[panel.y], strict=True):
            left = LEFT + labels.index(str(label)) * slot + 0.1 * slot + i * bar
            top, foot = sorted((y(float(value)), y(0.0)))
            parts.append(
                f"<rect x='{left:.1f}' y='{top:.1f}' width='{bar:.1f}' "
                f"height='{foot - top:.1f}' fill='{PALETTE[i % len(PALETTE)]}'>"
                f"<title>{html.escape(str(label))}: {value:.4g}</title></rect>"
            )
    parts += _names(labels, slot)
    return "".join([*parts, _legend([n for n, _ in series])])


def _names(labels: Sequence[str], slot: float) -> list[str]:
    """Under each bar; long names every other bar or fewer, so that none lies on another."""
    every = max(1, math.ceil(max(map(len, labels)) * LETTER / slot))
    return [
        f"<text x='{LEFT + (k + 0.5) * slot:.1f}' y='{HEIGHT - BOTTOM + 16}' "
        f"text-anchor='middle'>{html.escape(label)}</text>"
        for k, label in enumerate(labels)
        if k % every == 0
    ]


def _histogram(panel: Panel) -> str:
    values = panel.data[panel.x].cast(pl.Float64).drop_nulls().drop_nans()
    edges = np.linspace(*_span(values.to_list()), 41)
    series = _series(panel)
    counts = [
        np.histogram(f[panel.x].cast(pl.Float64).drop_nulls().drop_nans().to_numpy(), edges)[0]
        for _, f in series
    ]
    shares = [c / max(1, c.sum()) for c in counts]
    x = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    y = Axis(*_span([0.0, *(float(s.max()) for s in shares)], True), HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, panel.x, "share of rows")]
    for i, share in enumerate(shares):
        steps = [f"M{x(float(edges[0])):.1f} {y(0.0):.1f}"]
        for k, value in enumerate(share):
            steps.append(f"V{y(float(value)):.1f}H{x(float(edges[k + 1])):.1f}")
        color = PALETTE[i % len(PALETTE)]
        parts.append(
            f"<path d='{''.join(steps)}V{y(0.0):.1f}Z' fill='{color}' fill-opacity='.3' "
            f"stroke='{color}'/>"
        )
    return "".join([*parts, _legend([n for n, _ in series])])
