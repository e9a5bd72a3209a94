"""What is fitted on training rows: the scale of the label, the list of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.channel import CHANNELS
from domains.genomics.fact_scale import FactScale


@dataclass(frozen=True)
class EffectTokenizer:
    """Single-base tokens (A 0, C 1, G 2, T 3, N 4) with gene channels; labels to model units.

    Attributes:
        label_kind: regression or classification.
        mean, scale: model unit = (label - mean) / scale; 0 and 1 for classification.
        channels: names of the input channels, in order.
        damaging: +1 where graver consequences have higher labels in training, -1 where lower, 0
            where it is not known.
        facts: scale of the facts, where the network is told any.
    """

    label_kind: str
    mean: float
    scale: float
    channels: tuple[str, ...] = CHANNELS
    damaging: int = 0
    facts: FactScale | None = None

    @staticmethod
    def fit(
        rows: pl.DataFrame,
        label_kind: str,
        damaging: int = 0,
        channels: tuple[str, ...] = CHANNELS,
        facts: FactScale | None = None,
    ) -> EffectTokenizer:
        """Mean and standard deviation of the labels, each counted by its weight.

        Args:
            rows: training rows with label and weight.
        """
        if label_kind == "classification":
            return EffectTokenizer(label_kind, 0.0, 1.0, channels, facts=facts)
        label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
        mean = float(np.average(label, weights=weight))
        scale = float(np.sqrt(np.average((label - mean) ** 2, weights=weight)))
        scale = scale if scale > 0 else 1.0
        return EffectTokenizer(label_kind, mean, scale, channels, damaging, facts)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> EffectTokenizer:
        """Raises ConfigError where the gene channels are not those this version makes."""
        channels = tuple(state.get("channels", ()))
        genes = channels[: len(CHANNELS)]
        if genes != CHANNELS:
            unknown = sorted(set(genes) ^ set(CHANNELS))
            raise ConfigError(
                f"tokenizer.json: the channels differ from this version's ({', '.join(unknown)}); "
                "retrain, or use the version of longstrand that wrote the bundle"
            )
        told = state.get("facts")
        return EffectTokenizer(
            str(state["label_kind"]),
            float(state["mean"]),
            float(state["scale"]),
            channels,
            int(state.get("damaging", 0)),
            None if told is None else FactScale.from_dict(told, channels[len(CHANNELS) :: 2]),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "label_kind": self.label_kind,
            "mean": self.mean,
            "scale": self.scale,
            "channels": list(self.channels),
            "damaging": self.damaging,
            **({} if self.facts is None else {"facts": self.facts.to_dict()}),
        }

    def check_channels(self, found: tuple[str, ...]) -> None:
        """Raises ConfigError where an opened reference has other tracks than training had."""
        if found != self.channels:
            names = [t[len(CHANNELS) :: 2] for t in (found, self.channels)]
            told = [", ".join(n) or "none" for n in names]
            raise ConfigError(
                f"data.tracks: found {told[0]}, expected {told[1]}, in this order, as in training; "
                "name each with config.data.tracks.NAME.path=FILE"
            )

    def to_model(self, label: np.ndarray) -> np.ndarray:
        """Label unit -> model unit."""
        return (label - self.mean) / self.scale

    def to_label(self, output: np.ndarray) -> np.ndarray:
        """Model unit -> label unit (a logit stays a logit)."""
        return output * self.scale + self.mean
