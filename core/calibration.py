"""Raw model numbers to calibrated ones. Fitted on validation rows, saved in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from core.errors import LongstrandError
from core.tails import Tail

Kind = Literal["identity", "platt", "isotonic", "tails"]
BINS = 10
"""Of a calibration error."""


@dataclass(frozen=True)
class Calibration:
    """`identity` leaves raw numbers as they are (label units); `platt` gives the probability
    sigmoid(slope * raw + intercept) (Platt 1999); `isotonic` the one on the straight lines between
    its knots, pairs of raw number and probability that both rise (core.isotonic); `tails` takes
    several raw numbers a row, ranks each by its tail and gives the highest level (core.tails).

    Args:
        kept: what else a domain keeps of the validation rows, plain JSON types.
    """

    kind: Kind = "identity"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    tails: tuple[Tail, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """[n] raw, of tails [n, F] -> [n] score, float64."""
        raw = np.asarray(raw, dtype=np.float64)
        if self.kind == "identity":
            return raw
        if self.kind == "isotonic":
            return np.interp(raw, *np.array(self.knots).T)
        if self.kind == "tails":
            return self._levels(raw).max(axis=1)
        z = np.clip(self.slope * raw + self.intercept, -60.0, 60.0)
        return 1.0 / (1.0 + np.exp(-z))

    def strongest(self, raw: np.ndarray) -> list[str] | None:
        """[n] names of the tails that give the scores; None for a calibration without tails."""
        if self.kind != "tails":
            return None
        names = [tail.name for tail in self.tails]
        return [names[place] for place in self._levels(raw).argmax(axis=1)]

    def _levels(self, raw: np.ndarray) -> np.ndarray:
        return np.stack([tail.apply(raw[:, f]) for f, tail in enumerate(self.tails)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        state = {"kind": self.kind, **self._shape()}
        return {**state, "kept": dict(self.kept)} if self.kept else state

    def _shape(self) -> dict[str, Any]:
        if self.kind == "isotonic":
            return {"knots": [list(knot) for knot in self.knots]}
        if self.kind == "tails":
            return {"tails": [tail.to_dict() for tail in self.tails]}
        return {"slope": self.slope, "intercept": self.intercept}

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Calibration:
        kind, kept = state.get("kind"), dict(state.get("kept", {}))
        if kind == "tails":
            tails = tuple(Tail.from_dict(t) for t in state["tails"])
            return Calibration(kind, tails=tails, kept=kept)
        if kind == "isotonic":
            knots = tuple((float(raw), float(score)) for raw, score in state["knots"])
            return Calibration(kind, knots=knots, kept=kept)
        if kind not in ("identity", "platt"):
            raise LongstrandError(
                f"calibration.json: found kind {kind!r}, expected identity, platt, isotonic or "
                "tails; the bundle was written by another version: retrain it or use that version"
            )
        return Calibration(kind, float(state["slope"]), float(state["intercept"]), kept=kept)


def fit_platt(raw: np.ndarray, label: np.ndarray) -> Calibration:
    """Slope and intercept by unpenalised logistic regression on [n] raw numbers and 0/1 labels.

    With fewer than 2 examples of either class nothing can be fitted and the sigmoid of the raw
    logit itself is the probability.
    """
    # Scoring a file only applies one and must not wait for this.
    from sklearn.linear_model import LogisticRegression

    label = np.asarray(label).astype(int)
    if min(label.sum(), (1 - label).sum()) < 2:
        return Calibration("platt")
    # C so large that its penalty is far below the precision of the fit.
    fitted = LogisticRegression(C=1e9, max_iter=1000).fit(np.asarray(raw)[:, None], label)
    return Calibration("platt", float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def calibration_error(
    score: np.ndarray, label: np.ndarray, weight: np.ndarray, mass: np.ndarray
) -> float:
    """How far scores lie from labels where they are averaged: the sum over ten bins of |sum of
    score - label|, in units of the labels' own spread about their mean. 0 is perfect.

    Args:
        score, label, weight: [n]; weight says how often a row counts.
        mass: [n], not negative; every bin of rising score has the same sum of it. Ones give bins
            of equal counts; the scores themselves suit probabilities of something rare.
    """
    mean = np.average(label, weights=weight) if weight.sum() else 0.0
    spread = max(np.sum(weight * np.abs(label - mean)), 1e-300)
    return float(_excess(score, label, weight, mass) / spread)


def expected_calibration_error(label: np.ndarray, score: np.ndarray) -> float:
    """How far [n] probabilities lie from how often their [n] 0/1 labels are 1, on average over ten
    bins of equal counts (Naeini et al. 2015, there of equal widths): 0 is perfect, 1 the most."""
    ones = np.ones(len(score))
    return _excess(score, label, ones, ones) / len(score)


def _excess(score: np.ndarray, label: np.ndarray, weight: np.ndarray, mass: np.ndarray) -> float:
    """Sum over bins of |sum of weight * (score - label)|."""
    order = np.argsort(score, kind="stable")
    total = np.cumsum(mass[order])
    bins = np.minimum((total / max(total[-1], 1e-300) * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, (weight * (score - label))[order], minlength=BINS)).sum())
