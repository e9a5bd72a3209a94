"""Figures of expected bases: bits a base, and how often the most probable one is there."""

from __future__ import annotations

import numpy as np
import polars as pl

from core.contract import Metric, Panel

RESAMPLES = 200


def masked_metrics(predictions: pl.DataFrame, data: str, protocol: str) -> list[Metric]:
    """`bits_per_base` and `accuracy` over all known bases with 95 % intervals.

    Args:
        predictions: columns of `domains.genomics.stretch.judged`.

    The interval resamples stretches (percentile bootstrap, 200 draws). A part that is neither
    empty nor all has `bits_per_base_NAME`.
    """
    known = predictions["weight"].to_numpy()
    sums = {
        "bits_per_base": (predictions["raw"].to_numpy() * known, known),
        "accuracy": (predictions["right"].to_numpy(), known),
    }
    for name in [c.removeprefix("known:") for c in predictions.columns if c.startswith("known:")]:
        bits, some = (predictions[f"{of}:{name}"].to_numpy() for of in ("bits", "known"))
        if 0 < some.sum() < known.sum():
            sums[f"bits_per_base_{name}"] = (bits, some)
    return [
        Metric(data, protocol, "ours", name, *_ratio(total, of))
        for name, (total, of) in sums.items()
    ]


def _ratio(total: np.ndarray, of: np.ndarray) -> tuple[float, float, float]:
    """Sum by sum, and the bounds of its interval."""
    draw = np.random.default_rng(0)
    chosen = draw.integers(0, len(of), (RESAMPLES, len(of)))
    # A draw of stretches that are all soft-masked has no figure.
    drawn = total[chosen].sum(1) / np.maximum(of[chosen].sum(1), 1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(total.sum() / of.sum()), float(low), float(high)


def contig_metrics(predictions: pl.DataFrame, data: str) -> list[Metric]:
    """Bits a base of each contig."""
    return [
        masked_metrics(part, data, f"contig {name}")[0]
        for (name,), part in predictions.sort("row").group_by("chrom", maintain_order=True)
    ]


def masked_panels(predictions: pl.DataFrame) -> list[Panel]:
    """Bits a base of each contig, and their spread over stretches."""
    parts = contig_metrics(predictions, "")
    rows = [{"contig": m.protocol.removeprefix("contig "), "bits a base": m.value} for m in parts]
    spread = predictions.select(pl.col("raw").alias("bits a base"))
    return [
        Panel("Held-out contigs", "bar", pl.DataFrame(rows), "contig", "bits a base"),
        Panel(
            "Held-out stretches",
            "histogram",
            spread,
            "bits a base",
            caption="2 bits is no knowledge. Far below lie repeats and genes that are there twice.",
        ),
    ]
