"""The memory of a sweep: an Optuna study (Akiba et al. 2019, arXiv:1907.10902) in a sqlite file.

Trials are drawn by TPE (Bergstra et al. 2011, NeurIPS), each from a seed of its own, so that a
sweep that was killed draws what an unbroken one draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, LongstrandError
from core.training.loader import step_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FAILED = "failed by itself"


@dataclass(frozen=True)
class Trial:
    """`folder` names its run folder; a trial that runs again has that of the first time."""

    folder: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """Of a trial; `value` is None where its training failed by itself."""

    folder: str
    values: Mapping[str, Any]
    value: float | None


class Study:
    """One sweep in one file, worked on by one process at a time.

    Args:
        direction: minimize or maximize.
        identity: what must not change between two starts, by name.

    Raises:
        ConfigError: the file holds another sweep.
    """

    def __init__(self, path: Path, direction: Any, identity: Mapping[str, str], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._seed = optuna, seed
        self._state = optuna.trial.TrialState
        self._study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name="sweep",
            direction=direction,
            load_if_exists=True,
        )
        noted = self._study.user_attrs
        for name, value in identity.items():
            if noted.get(name, value) != value:
                raise ConfigError(
                    f"study: {path} holds a sweep with other {name}; give those that it began "
                    "with, or name another file"
                )
            self._study.set_user_attr(name, value)

    def take_up(self) -> int:
        """Mark what a killed process was running as failed and queue it again; returns how many."""
        trials = self._study.get_trials(deepcopy=False)
        queued = {t.user_attrs.get("folder") for t in trials if t.state == self._state.WAITING}
        stale = [t for t in trials if t.state == self._state.RUNNING]
        for trial in stale:
            folder = trial.user_attrs.get("folder")  # none: killed before it had one
            if folder is not None and folder not in queued:
                # Queued before it is marked, so that a kill in between loses nothing.
                self._study.enqueue_trial(dict(trial.params), user_attrs={"folder": folder})
            self._study.tell(trial.number, state=self._state.FAIL)
        return len(stale)

    def ask(self, space: Mapping[str, BaseDistribution]) -> Trial:
        """The next trial: one that was killed, or a new one."""
        done = len(self.results())
        seed = step_seed(self._seed, done) % 2**32
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._asked = self._study.ask(dict(space))
        folder = self._asked.user_attrs.get("folder") or f"trial-{done:04d}"
        self._asked.set_user_attr("folder", folder)
        return Trial(folder, self._asked.params)

    def tell(self, value: float | None) -> None:
        """How the trial that was asked for ended; None where its training failed by itself."""
        if value is None:
            self._asked.set_user_attr(FAILED, True)
            self._study.tell(self._asked, state=self._state.FAIL)
        else:
            self._study.tell(self._asked, value)

    def results(self) -> list[Result]:
        """Trials that ended, in order; those that were killed are not among them."""
        return [
            Result(t.user_attrs["folder"], t.params, t.value)
            for t in self._study.get_trials(deepcopy=False)
            if t.state == self._state.COMPLETE or FAILED in t.user_attrs
        ]

    def best(self) -> Result:
        """Raises LongstrandError where every trial failed."""
        if all(result.value is None for result in self.results()):
            raise LongstrandError(
                "sweep: the training of every trial failed; the log says why; narrow sweep.space"
            )
        best = self._study.best_trial
        return Result(best.user_attrs["folder"], best.params, best.value)
