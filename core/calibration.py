"""Raw model numbers to calibrated ones. Fitted on validation rows, saved in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from core.errors import LongstrandError

Kind = Literal["identity", "platt"]


@dataclass(frozen=True)
class Calibration:
    """`identity` leaves raw numbers as they are (label units); `platt` gives the probability
    sigmoid(slope * raw + intercept) (Platt 1999)."""

    kind: Kind = "identity"
    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """[n] raw -> [n] score, float64."""
        raw = np.asarray(raw, dtype=np.float64)
        if self.kind == "identity":
            return raw
        z = np.clip(self.slope * raw + self.intercept, -60.0, 60.0)
        return 1.0 / (1.0 + np.exp(-z))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Calibration:
        if state.get("kind") not in ("identity", "platt"):
            raise LongstrandError(
                f"calibration.json: found kind {state.get('kind')!r}, expected identity or platt; "
                "the bundle was written by another version: retrain it or use that version"
            )
        return Calibration(state["kind"], float(state["slope"]), float(state["intercept"]))


def fit_platt(raw: np.ndarray, label: np.ndarray) -> Calibration:
    """Slope and intercept by Newton's method on the log loss, with Platt's target smoothing.

    With fewer than 2 examples of either class nothing can be fitted and the sigmoid of the raw
    logit itself is the probability.
    """
    raw = np.asarray(raw, dtype=np.float64)
    label = np.asarray(label, dtype=np.float64)
    positives, negatives = label.sum(), (1 - label).sum()
    if min(positives, negatives) < 2:
        return Calibration("platt")
    target = np.where(label > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([raw, np.ones_like(raw)], axis=1)
    weights = np.array([1.0, 0.0])
    ridge = 1e-9 * np.eye(2)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -60, 60)))
        gradient = design.T @ (p - target)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + ridge
        step = np.linalg.solve(hessian, gradient)
        weights = weights - np.clip(step, -4, 4)
        if np.abs(step).max() < 1e-10:
            break
    return Calibration("platt", float(weights[0]), float(weights[1]))
