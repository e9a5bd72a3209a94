"""MODEL_CARD.md of a bundle (after Mitchell et al. 2019), from what the run knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.contract import Metric

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig

_CARD = """# {domain}: {task}

Written by longstrand {version} for the run of {created}.

## What it is
A sparse transformer encoder: {encoder}.

## What it was trained on
Data fingerprint `{fingerprint}`. Labels seen: {seen}.

## Figures on held-out rows
Each beside other models on the same rows: its floors, which take no learning worth the name, or the
champion that it was to replace.

{table}

## Use
Research use. The figures hold for data like that above; check them on your own labelled rows
with `python -m pipelines.evaluate` before you act on a score. A decision about a person or a
patient needs a person.

## Settings
Those that are set. What a score is follows from them.

{settings}
"""


def model_card(
    manifest: Mapping[str, Any], encoder: EncoderConfig, metrics: Sequence[Metric]
) -> str:
    """The card as Markdown."""
    from core.bundle import library_versions

    seen = manifest["label_intervals"]
    shown = ", ".join(f"`{s}`" for s in seen[:5]) + (f" and {len(seen) - 5} more" * (len(seen) > 5))
    size = f"{encoder.layers} layers, width {encoder.dim}, {encoder.heads} heads, {encoder.pattern}"
    return _CARD.format(
        domain=manifest["domain"],
        task=manifest["task"],
        version=library_versions()["longstrand"],
        created=manifest["created"],
        encoder=size,
        fingerprint=manifest["fingerprint"],
        seen=shown or "none",
        table=metric_table(metrics),
        settings=setting_table(manifest),
    )


def setting_table(manifest: Mapping[str, Any]) -> str:
    """Markdown rows: each setting of domain and training that has a value, by its dotted name."""
    told = {"domain": manifest["config"], **manifest["training"]}
    lines = ["| setting | value |", "|---|---|"]
    for name, value in _flat("", told):
        shown = str(value).replace("|", "\\|")
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; nulls and empty lists and tables tell nothing."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is not None and value != []:
        yield prefix, value


def metric_table(metrics: Sequence[Metric]) -> str:
    """Markdown rows: protocol, metric, model, value, 95 % interval."""
    lines = ["| protocol | metric | model | value | 95 % interval |", "|---|---|---|---|---|"]
    for m in in_order(metrics):
        figures = f"{m.value:.4f} | {m.low:.4f} to {m.high:.4f}"
        lines.append(f"| {m.protocol} | {m.metric} | {m.model} | {figures} |")
    return "\n".join(lines)


def in_order(metrics: Sequence[Metric]) -> list[Metric]:
    """Protocols as they come, all rows before parts of them; in each, ours before other models."""
    protocols = list(dict.fromkeys(m.protocol for m in metrics))
    return sorted(
        metrics,
        key=lambda m: (protocols.index(m.protocol), m.metric, m.model != "ours", m.model),
    )
