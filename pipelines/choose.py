"""attention=auto: which pattern, of which size, a budget buys best.

Every family of patterns gives its largest member within the budget (`core.attention.auto`); short
trainings by successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) then compare them on
validation rows. A fold with a test chooses by its own training part and validation alone, so that
no test label has a say in the model that it tests; the refit, which has no test, takes what ranked
best over the folds. All choices are made, and written down, before the first fold is trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold
from core.errors import ConfigError
from pipelines import runs
from pipelines.entrants import Entrants, entrants
from pipelines.tries import Bench, Try

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig

log = logging.getLogger("longstrand.choose")


def check(node: DictConfig) -> None:
    """Settings of attention=auto that can be judged before any data is read.

    Raises:
        ConfigError: no budget, or numbers out of range.
    """
    share, seconds = node.budget.share_of_dense, node.budget.seconds_per_step
    if share is None and seconds is None:
        raise ConfigError(
            "attention.budget: found none, expected a share of what dense attention costs "
            "(attention.budget.share_of_dense=0.1), seconds a training step "
            "(attention.budget.seconds_per_step=0.5), or both"
        )
    if share is not None and not 0 < share <= 1:
        raise ConfigError(f"attention.budget.share_of_dense: found {share}, expected in (0, 1]")
    if seconds is not None and not 0 < seconds < inf:
        raise ConfigError(
            f"attention.budget.seconds_per_step: found {seconds}, expected above 0 and finite"
        )
    for name in ("steps", "batches"):
        if node.tries[name] < 1:
            raise ConfigError(f"attention.tries.{name}: found {node.tries[name]}, expected >= 1")
    if not 0 < node.tries.keep < 1:
        raise ConfigError(
            f"attention.tries.keep: found {node.tries.keep}, expected a share between 0 and 1"
        )


def choose(
    bench: Bench, folds: Sequence[Fold], encoder: EncoderConfig, run: runs.Run
) -> dict[str, Any]:
    """The content of attention_choice.json, written or, in a resumed run, found there.

    Keys: budget; tokens of a sequence; within, the patterns within the budget (name, attention as
    a command line asks for it, saved as in a bundle); chosen, a name by fold; again, the same as
    a command line; table, a row for every pattern and fold.

    Raises:
        ConfigError: no pattern fits the budget.
    """
    path = run.path / "attention_choice.json"
    if not path.is_file():
        field = entrants(bench, folds[0], encoder)
        judging = [i for i, fold in enumerate(folds) if len(fold.test)] or [len(folds) - 1]
        tried = {folds[i].name: _halving(bench, folds[i], i, encoder, field) for i in judging}
        runs.write_json(path, _record(bench.config.attention, folds, field, tried))
    return json.loads(path.read_text())


def encoders(choice: Mapping[str, Any], encoder: EncoderConfig) -> dict[str, EncoderConfig]:
    """Of every fold, with its chosen pattern."""
    from core.attention import pattern_from_dict

    patterns = {row["name"]: row["saved"] for row in choice["within"]}
    return {
        fold: replace(encoder, pattern=pattern_from_dict(patterns[name]))
        for fold, name in choice["chosen"].items()
    }


def _halving(
    bench: Bench, fold: Fold, index: int, encoder: EncoderConfig, field: Entrants
) -> dict[str, list[Try]]:
    """Tries of every pattern by name, the best first, the dense twin last where it was tried.

    Every round trains for twice the steps of the one before and keeps the better share.
    """
    tries, most = bench.config.attention.tries, bench.config.trainer.steps
    found: dict[str, list[Try]] = {one.name: [] for one in field.within}
    alive, ranked, steps = list(field.within), [], min(tries.steps, most)
    while alive:
        for one in alive:
            shaped = replace(encoder, pattern=one.pattern)
            found[one.name].append(bench.measure(fold, index, one.name, shaped, steps))
        # equal losses: the cheaper first
        alive.sort(key=lambda one: (found[one.name][-1].loss, one.fill))
        keep = min(len(alive) - 1, ceil(len(alive) * tries.keep)) if len(alive) > 2 else 0
        ranked = alive[keep:] + ranked
        alive, steps = alive[:keep], min(2 * steps, most)
    result = {one.name: found[one.name] for one in ranked}
    if field.dense is not None and field.dense_is_tried():
        shaped, steps = replace(encoder, pattern=field.dense.pattern), min(tries.steps, most)
        result["dense"] = [bench.measure(fold, index, "dense", shaped, steps)]
    return result


def _record(
    node: DictConfig,
    folds: Sequence[Fold],
    field: Entrants,
    tried: Mapping[str, Mapping[str, list[Try]]],
) -> dict[str, Any]:
    names = [one.name for one in field.within]
    ranks = {fold: [name for name in order if name in names] for fold, order in tried.items()}
    # sums of ranks; equal sums: the order of the families
    best = min(names, key=lambda name: sum(order.index(name) for order in ranks.values()))
    chosen = {fold.name: ranks[fold.name][0] if fold.name in ranks else best for fold in folds}
    from pipelines.choice_report import choice_rows, described  # which imports polars

    within = [described(one, node) for one in field.within]
    again = {row["name"]: row["attention"] for row in within}
    for fold, name in chosen.items():
        how = "by its own validation rows" if fold in ranks else "best over the folds"
        log.info(
            "fold %s: chose %s of %d within the budget, %s", fold, again[name], len(names), how
        )
    return {
        "budget": {key: node.budget[key] for key in node.budget},
        "tokens": field.load.tokens,
        "within": within,
        "chosen": chosen,
        "again": {fold: again[name] for fold, name in chosen.items()},
        "table": choice_rows(node, field, tried),
    }
