"""What a fraud team would use instead: models on features made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.fraud_features import EXTENDED, HANDBOOK
from core.errors import ConfigError

MISSING = -1.0
"""What stands for "no past" in a model that takes no NaN."""


@dataclass(frozen=True)
class Trees:
    """Size of a boosted forest. A week of training needs a smaller one than three months."""

    rounds: int
    leaves: int
    least: int
    columns: float


LARGE = Trees(rounds=400, leaves=15, least=20, columns=0.6)
SMALL = Trees(rounds=200, leaves=7, least=10, columns=0.7)
Maker = Callable[[Trees, int, int], Any]


@dataclass(frozen=True)
class Rival:
    """A model by its maker (size, seed, threads -> estimator of scikit-learn's kind) and how many
    of the features it reads. `missing` says whether it takes NaN."""

    make: Maker
    features: int
    missing: bool = True

    def fit(self, size: Trees, seed: int, threads: int, x: np.ndarray, y: np.ndarray) -> Any:
        with threadpool_limits(threads):
            return self.make(size, seed, threads).fit(self._read(x), y)

    def probability(self, fitted: Any, threads: int, x: np.ndarray) -> np.ndarray:
        """[n] of being fraud."""
        with threadpool_limits(threads):
            return fitted.predict_proba(self._read(x))[:, 1]

    def _read(self, x: np.ndarray) -> np.ndarray:
        x = x[:, : self.features]
        return x if self.missing else np.nan_to_num(x, nan=MISSING)


def light_gbm(size: Trees, seed: int, threads: int) -> Any:
    """4,095 bins: with the default of 255 the tail of the amount is one bin.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from lightgbm import LGBMClassifier
    except ImportError as error:
        raise ConfigError(
            'models: lightgbm is not installed; install the extra: pip install "longstrand[bench]"'
        ) from error
    return LGBMClassifier(
        n_estimators=size.rounds,
        learning_rate=0.05,
        num_leaves=size.leaves,
        min_child_samples=size.least,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=size.columns,
        reg_lambda=5,
        max_bin=4095,
        min_data_in_bin=1,
        n_jobs=threads,
        verbose=-1,
        random_state=seed,
    )


def hist_gradient_boosting(size: Trees, seed: int, threads: int) -> Any:
    """scikit-learn's, which has 255 bins at most."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        random_state=seed,
    )


def logistic_regression(size: Trees, seed: int, threads: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(random_state=seed, max_iter=1000))


def random_forest(size: Trees, seed: int, threads: int) -> Any:
    """The Handbook's: 100 trees, grown out."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=seed, n_jobs=threads)


RIVALS = {
    "lightgbm_15": Rival(light_gbm, HANDBOOK),
    "lightgbm_49": Rival(light_gbm, EXTENDED),
    "hist_gradient_boosting_15": Rival(hist_gradient_boosting, HANDBOOK),
    "hist_gradient_boosting_49": Rival(hist_gradient_boosting, EXTENDED),
    "logistic_regression_15": Rival(logistic_regression, HANDBOOK, missing=False),
    "random_forest_15": Rival(random_forest, HANDBOOK, missing=False),
}
