"""Carrying out a decision: publish, record, promote. Every step may be repeated.

The decision is a file of the run folder before anything happens, so that whichever retraining
comes next finishes what a killed one had begun.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from pipelines.registry import Registry
from pipelines.registry.version import CHALLENGER
from pipelines.retrain import audit
from pipelines.retrain.gate import Verdict
from pipelines.retrain.job import Job
from pipelines.retrain.stages import Stages


@dataclass(frozen=True)
class Decision:
    """What is to become of a challenger.

    Args:
        promote: whether it becomes the champion.
        forced: whether somebody said so against the verdict.
        reason: of the verdict.
        facts: for the audit record and the summary; plain JSON types.
    """

    name: str
    promote: bool
    forced: bool
    reason: str
    champion: int | None
    source_key: str
    facts: dict[str, Any]

    def note(self) -> dict[str, str]:
        """What the registry keeps of the challenger."""
        return {
            "source_key": self.source_key,
            "as_of": self.facts["as_of"],
            "fingerprint": self.facts["data"],
            "verdict": self.reason,
        }


def decision_of(job: Job, verdict: Verdict, key: str) -> Decision:
    """The verdict's, or what force=true makes of it."""
    start = job.stages.read("start")
    compared = asdict(verdict)
    facts = {
        "name": job.name,
        "domain": job.domain.name,
        "task": job.task.name,
        "as_of": str(job.day),
        "data": job.source.fingerprint(),
        "config": start["config"],
        "champion": start["champion_version"],
        "champion_number": start["champion"],
        "challenger": job.stages.read("challenger")["model_version"],
        "metric": verdict.metric,
        "challenger_value": verdict.value,
        "champion_value": verdict.comparisons[0].champion if verdict.comparisons else None,
        "comparisons": compared["comparisons"],
        "verdict": verdict.reason,
    }
    forced = bool(job.config.force) and not verdict.better
    promote = verdict.better or forced
    return Decision(job.name, promote, forced, verdict.reason, start["champion"], key, facts)


def carry_out(stages: Stages, home: Path, registry: Registry, stage: str) -> dict[str, Any]:
    """Do what the decision in the stage of that name says; what the run came to."""
    decision = Decision(**stages.read(stage))
    run = stages.folder.name
    log = home / "audit.jsonl"
    number = stages.once(f"{stage}_published", lambda: _publish(stages, registry, decision))
    facts = {**decision.facts, "challenger_number": number, "forced": decision.forced}
    audit.record(log, "judged", run, {**facts, "promote": decision.promote})
    ended = stages.once(f"{stage}_ended", lambda: _end(registry, decision, number))
    audit.record(log, ended["event"], run, {**facts, "reason": ended["reason"]})
    done = {
        "promoted": ended["event"] in ("promoted", "forced"),
        "reason": ended["reason"],
        "version": number,
        "champion": ended["champion"],
        "forced": decision.forced,
    }
    return stages.once(stage.replace("decision", "done"), lambda: done)


def _publish(stages: Stages, registry: Registry, decision: Decision) -> int:
    bundle = stages.folder / "challenger"
    version = registry.publish(decision.name, bundle, decision.note())
    champion = registry.aliases(decision.name).get("champion")
    if version.number != champion:
        registry.point(decision.name, CHALLENGER, version.number)
    return version.number


def _end(registry: Registry, decision: Decision, number: int) -> dict[str, Any]:
    """Promote, unless the champion is another than was judged against by now."""
    name = decision.name
    if not decision.promote:
        return {"event": "kept", "reason": decision.reason, "champion": decision.champion}
    if decision.forced:
        registry.promote(name, number)
        return {"event": "forced", "reason": decision.reason, "champion": number}
    now = registry.aliases(name).get("champion")
    if now not in (decision.champion, number):
        reason = (
            f"the champion was changed to version {now} meanwhile; the challenger was judged "
            f"against version {decision.champion}"
        )
        return {"event": "overtaken", "reason": reason, "champion": now}
    registry.promote(name, number, judged_against=decision.champion)
    return {"event": "promoted", "reason": decision.reason, "champion": number}


def finish_left_over(home: Path, registry: Registry) -> None:
    """Carry out the decisions of killed runs."""
    for path in sorted(home.glob("*/*decision.json")):
        stages, stage = Stages(path.parent), path.stem
        if not stages.finished(stage.replace("decision", "done")):
            carry_out(stages, home, registry, stage)


def force(stages: Stages, home: Path, registry: Registry) -> dict[str, Any]:
    """Promote the challenger of a finished run against its verdict.

    Raises:
        ConfigError: the run left no decision to overrule.
    """
    if not stages.finished("decision"):
        raise ConfigError(f"{stages.folder}: found no decision to overrule")
    judged = Decision(**stages.read("decision"))
    stages.once("forced_decision", lambda: asdict(replace(judged, promote=True, forced=True)))
    return carry_out(stages, home, registry, "forced_decision")
