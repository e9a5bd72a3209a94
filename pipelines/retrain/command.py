"""Train a challenger on the data known on a day, judge it, promote it or keep it out.

python -m pipelines.retrain domain=NAME as_of=DATE [group=choice] [key=value]

One shot, for cron and the like. The same day, data and configuration are the same retraining: a
second start goes on where the first was killed, and does nothing where it had finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from core.contract import Domain
from core.errors import ConfigError, DataContractError, TooFewLabelsError
from core.training import launch
from pipelines import build, runs
from pipelines.domains import load_domain
from pipelines.log import about
from pipelines.registry import Registry, open_registry
from pipelines.retrain import audit
from pipelines.retrain.decide import carry_out, decision_of, finish_left_over, force
from pipelines.retrain.job import Job, day_of, gate_of, key_of, load_model, work_hash
from pipelines.retrain.stages import Stages
from pipelines.retrain.work import find_out, set_aside
from pipelines.train import check_needs, with_data

log = logging.getLogger("longstrand.retrain")


def retrain(config: DictConfig) -> dict[str, Any]:
    """One retraining; returns the summary."""
    day, domain = day_of(config.as_of), load_domain(config.domain.name)
    settings = build.domain_config(config.domain)
    about(domain=domain.name)
    gate_of(config)
    if config.init not in (None, "champion"):
        raise ConfigError(f"init: found {config.init!r}, expected champion or null")
    check_needs(config.needs)
    build.tune_process(config.threads)
    build.check_logger(config.logger)
    build.fitting(config.trainer)
    build.members(config.trainer)
    if launch.count() > 1:
        raise ConfigError(
            f"found {launch.count()} processes (torchrun), expected one: a retraining runs in one"
        )
    build.encoder(config, build.pattern(config.attention))
    name = config.name or domain.task(settings).name
    registry = open_registry(config.registry)
    home = Path(config.runs) / domain.name / "retrain" / name
    home.mkdir(parents=True, exist_ok=True)
    with registry.lock(name), _refusals(home, day, work_hash(config)):
        if not config.dry_run:
            finish_left_over(home, registry)
        return _retrain(config, domain, settings, day, name, registry, home)


def _retrain(
    config: DictConfig,
    domain: Domain,
    settings: Any,
    day: date,
    name: str,
    registry: Registry,
    home: Path,
) -> dict[str, Any]:
    settings = domain.as_of(with_data(domain, settings, home), day)
    source = domain.open(settings, "train")
    key = key_of(day, source.fingerprint(), work_hash(config))
    stages = Stages(home / f"{day}-{key}")
    if stages.finished("done"):
        return _again(config, stages, home, registry)
    version = registry.alias(name, "champion")
    _leave_behind(stages, version.number if version else None)
    stages.folder.mkdir(exist_ok=True)
    champion = load_model(domain, registry, version) if version else None
    task = domain.task(settings)
    job = Job(config, domain, settings, source, task, day, name, registry, champion, home, stages)
    about(run=str(stages.folder), as_of=str(day))
    with runs.logged(stages.folder / "retrain.log"):
        log.info("as of %s, against %s", day, version or "no champion")
        return _judge(job, key)


def _judge(job: Job, key: str) -> dict[str, Any]:
    """From the start to the decision, and what follows from it."""
    from pipelines.retrain.page import write_page

    stages, version = job.stages, job.champion.version if job.champion else None
    start = {
        "as_of": str(job.day),
        "config": work_hash(job.config),
        "champion": version.number if version else None,
        "champion_version": version.model_version if version else None,
        "set_aside": set_aside(job),
    }
    stages.once("start", lambda: start)
    verdict = find_out(job)
    stages.once("report", lambda: write_page(job, verdict))
    decision = decision_of(job, verdict, key)
    if job.config.dry_run:
        return _summary(stages, asdict(decision), {"promoted": False, "dry_run": True})
    stages.once("decision", lambda: asdict(decision))
    done = carry_out(stages, job.home, job.registry, "decision")
    return _summary(stages, stages.read("decision"), done)


def _again(config: DictConfig, stages: Stages, home: Path, registry: Registry) -> dict[str, Any]:
    """The summary of a finished run; with force=true its challenger is promoted all the same."""
    forced = stages.finished("forced_done")
    done = stages.read("forced_done" if forced else "done")
    wanted = config.force and not config.dry_run and not done["promoted"]
    if wanted:
        done = force(stages, home, registry)
    return _summary(stages, stages.read("decision"), {**done, "already_done": not wanted})


def _summary(stages: Stages, decision: dict[str, Any], done: dict[str, Any]) -> dict[str, Any]:
    facts = decision["facts"]
    drift = stages.read("drift") if stages.finished("drift") else []
    return {
        "command": "retrain",
        "name": facts["name"],
        "as_of": facts["as_of"],
        "run": str(stages.folder),
        "better": decision["promote"] and not decision["forced"],
        "reason": decision["reason"],
        "metric": facts["metric"],
        "champion_value": facts["champion_value"],
        "challenger_value": facts["challenger_value"],
        "drifted": [d["field"] for d in drift if d["level"] == "drifted"],
        "set_aside": stages.read("start")["set_aside"],
        **done,
    }


def _leave_behind(stages: Stages, champion: int | None) -> None:
    """An unfinished run that compared with another champion is no use any more: its folder gets
    another name and this run begins anew."""
    if not stages.finished("start") or stages.read("start")["champion"] == champion:
        return
    folder = stages.folder
    taken = len(list(folder.parent.glob(f"{folder.name}.left-*")))
    left = folder.with_name(f"{folder.name}.left-{taken + 1}")
    log.warning("%s: the champion has changed since; left as %s", folder, left.name)
    os.rename(folder, left)


@contextlib.contextmanager
def _refusals(home: Path, day: date, work: str) -> Iterator[None]:
    """A refusal of the data or of too few labels is a decision too: it is put on record."""
    try:
        yield
    except (DataContractError, TooFewLabelsError) as error:
        said = hashlib.sha256(str(error).encode()).hexdigest()[:12]
        facts = {"as_of": str(day), "config": work, "reason": str(error), "promote": False}
        audit.record(home / "audit.jsonl", "refused", f"{day}-{work}-{said}", facts)
        raise
