"""Search for settings: python -m pipelines.sweep domain=NAME sweep=NAME n_trials=N study=FILE.db

Every trial trains with other settings and is judged on validation rows; test rows are not touched.
The study is one sqlite file, the trials' run folders lie in a folder beside it. The same command
goes on after a kill, up to n_trials.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from core.contract import Source
from core.errors import ConfigError, LongstrandError, Preempted
from core.training import launch
from pipelines import build, cli, locks, runs
from pipelines.domains import load_domain
from pipelines.log import about, stage
from pipelines.search_space import applied, check, distributions
from pipelines.train import check_needs, with_data
from pipelines.trial import Judge

if TYPE_CHECKING:
    from pipelines.study import Result, Study

log = logging.getLogger("longstrand.sweep")

_MAY_CHANGE = ("n_trials", "study", "threads")
FREE_TO_FAIL = (LongstrandError, ConfigError)
"""What a bad draw of settings ends with: a loss that diverged, settings that do not fit."""


def sweep(config: DictConfig) -> dict[str, Any]:
    """Trials up to n_trials. Returns the summary."""
    _check(config)
    domain = load_domain(config.domain.name)
    about(domain=domain.name)
    settings = build.domain_config(config.domain)
    build.tune_process(config.threads)
    build.check_logger(config.logger)
    space, path = distributions(config.sweep.space), Path(config.study)
    check(config, space)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{path}: another process is working on this study; wait for it"
    with locks.held(folder / ".lock", refusal), runs.logged(folder / "sweep.log"):
        source = domain.open(with_data(domain, settings, folder), "train")
        study = _study(config, path, source)
        again = study.take_up()
        if again:
            log.info("%d trial(s) that were killed run again", again)
        _search(config, study, Judge(domain, source, folder), space)
        results, best = study.results(), study.best()
        runs.write_json(folder / "results.json", [asdict(result) for result in results])
    return {
        "command": "sweep",
        "domain": domain.name,
        "study": str(path),
        "folder": str(folder),
        "trials": len(results),
        "failed": sum(result.value is None for result in results),
        "metric": config.sweep.metric,
        "best": {"value": best.value, "trial": best.folder, "settings": dict(best.values)},
        "again": _command(best),
    }


def _check(config: DictConfig) -> None:
    """What can be judged before any data is read."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            'a sweep needs Optuna; install the extra: pip install "longstrand[sweep]"'
        )
    if launch.count() > 1 or config.trainer.strategy != "single":
        raise ConfigError(
            "a sweep trains in one process: start it without torchrun, trainer.strategy=single"
        )
    if config.trainer.members != 1:
        raise ConfigError(
            f"trainer.members: found {config.trainer.members}, expected 1: a trial judges settings "
            "by one training; train with what the sweep finds and more members"
        )
    if Path(config.study).suffix != ".db":
        raise ConfigError(f"study: found {config.study}, expected a file that ends in .db")
    if config.sweep.direction not in ("minimize", "maximize"):
        raise ConfigError(
            f"sweep.direction: found {config.sweep.direction!r}, expected minimize or maximize"
        )
    if config.sweep.metric == "loss" and config.sweep.direction == "maximize":
        raise ConfigError("sweep.direction: found maximize, but a loss is better when smaller")
    for name, found in (("n_trials", config.n_trials), ("sweep.folds", config.sweep.folds)):
        if found is not None and found < 1:
            raise ConfigError(f"{name}: found {found}, expected at least 1")
    check_needs(config.needs)
    build.pattern(config.attention)


def _study(config: DictConfig, path: Path, source: Source) -> Study:
    from pipelines.study import Study

    kept = OmegaConf.masked_copy(config, [str(k) for k in config if k not in _MAY_CHANGE])
    identity = {"settings": runs.config_hash(kept), "data": source.fingerprint()}
    return Study(path, config.sweep.direction, identity, config.seed)


def _search(config: DictConfig, study: Study, judge: Judge, space: Mapping[str, Any]) -> None:
    while len(study.results()) < config.n_trials:
        trial = study.ask(space)
        with stage("trial", trial=trial.folder) as done:
            try:
                value = judge.value(applied(config, trial.values), trial.folder)
            except Preempted:
                raise Preempted(f"stopped in {trial.folder}; the same command goes on") from None
            except LongstrandError as error:
                if type(error) not in FREE_TO_FAIL:
                    raise
                log.warning("%s failed: %s", trial.folder, error)
                value = None
            study.tell(value)
            done["value"] = value


def _command(best: Result) -> str:
    """The command line of a training with the best settings."""
    own = ("sweep=", "sweep.", "n_trials=", "study=")
    given = [o for o in HydraConfig.get().overrides.task if not o.startswith(own)]
    found = [f"{name}={json.dumps(value)}" for name, value in best.values.items()]
    return shlex.join(["python", "-m", "pipelines.train", *given, *found])


def main() -> None:
    """Console script longstrand-sweep."""
    cli.run(sweep, "sweep")


if __name__ == "__main__":
    main()
