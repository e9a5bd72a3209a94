"""What is fitted on training rows: the scale of the label, the list of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.channel import CHANNELS
from domains.genomics.contig import GENBANK
from domains.genomics.fact_scale import FactScale

if TYPE_CHECKING:
    from domains.genomics.source import Reference


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
        annotated: genes were told in training. Where not, weights of gene channels and amino acids
            have learned nothing, and the network must not be told them later either.
    """

    label_kind: str
    mean: float
    scale: float
    channels: tuple[str, ...] = CHANNELS
    damaging: int = 0
    facts: FactScale | None = None
    annotated: bool = True

    @staticmethod
    def fit(
        rows: pl.DataFrame,
        label_kind: str,
        damaging: int = 0,
        channels: tuple[str, ...] = CHANNELS,
        facts: FactScale | None = None,
        annotated: bool = True,
    ) -> EffectTokenizer:
        """Mean and standard deviation of the labels, each counted by its weight.

        Args:
            rows: training rows with label and weight.
        """
        if label_kind == "classification":
            return EffectTokenizer(label_kind, 0.0, 1.0, channels, 0, facts, annotated)
        label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
        mean = float(np.average(label, weights=weight))
        scale = float(np.sqrt(np.average((label - mean) ** 2, weights=weight)))
        scale = scale if scale > 0 else 1.0
        return EffectTokenizer(label_kind, mean, scale, channels, damaging, facts, annotated)

    @staticmethod
    def from_dict(state: Mapping[str, Any], config: Mapping[str, Any]) -> EffectTokenizer:
        """What `to_dict` gave; what it did not tell in older versions is taken from `config`, that
        of the bundle.

        Raises:
            ConfigError: the gene channels are not those this version makes.
        """
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
            bool(state.get("annotated", _names_genes(config.get("data", {})))),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "label_kind": self.label_kind,
            "mean": self.mean,
            "scale": self.scale,
            "channels": list(self.channels),
            "damaging": self.damaging,
            "annotated": self.annotated,
            **({} if self.facts is None else {"facts": self.facts.to_dict()}),
        }

    def told(self, reference: Reference) -> Reference:
        """What the network may be told of an opened reference: without genes where training had
        none.

        Raises:
            ConfigError: it has other tracks than training had, or no annotation where training had
                one.
        """
        self._check_channels(reference.channel_names)
        if not self.annotated:
            return reference.without_genes()
        if not reference.transcripts:
            raise ConfigError(
                "data.annotation: found none, expected one, as in training: the network reads gene "
                "structure and codons; name it with config.data.annotation=FILE"
            )
        return reference

    def _check_channels(self, found: tuple[str, ...]) -> None:
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


def _names_genes(data: Mapping[str, Any]) -> bool:
    """Whether the `data` of a configuration has an annotation: a file of its own, the GenBank
    records that are the reference, or that of a simulation."""
    if data.get("source") == "simulated" or data.get("annotation") is not None:
        return True
    fasta = data.get("fasta")
    return fasta is not None and Path(fasta).suffix in GENBANK
