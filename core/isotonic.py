"""Isotonic calibration: any shape that only rises (Zadrozny & Elkan 2002)."""

from __future__ import annotations

import numpy as np

from core.calibration import Calibration


def fit_isotonic(raw: np.ndarray, label: np.ndarray) -> Calibration:
    """Label rates of the blocks that isotonic regression finds in [n] raw numbers and 0/1 labels,
    joined by straight lines from the centre of one to that of the next, so that rows of one block
    keep their order (Oron & Flournoy 2017); beyond the outermost centres they are level.

    With fewer than 2 examples of either class nothing can be fitted and the sigmoid of the raw
    logit itself is the probability.
    """
    # Scoring a file only applies one and must not wait for this.
    from sklearn.isotonic import IsotonicRegression

    raw, label = np.asarray(raw, dtype=np.float64), np.asarray(label).astype(int)
    if min(label.sum(), (1 - label).sum()) < 2:
        return Calibration("platt")
    rate = IsotonicRegression(out_of_bounds="clip").fit_transform(raw, label)
    rates, block = np.unique(rate, return_inverse=True)
    centres = np.bincount(block, raw) / np.bincount(block)
    knots = tuple((float(c), float(r)) for c, r in zip(centres, rates, strict=True))
    return Calibration("isotonic", knots=knots)
