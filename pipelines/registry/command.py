"""Look after published models: python -m pipelines.registry VERB [key=value]

list [name=NAME]                        every version and what points at it
show name=NAME [version=N]              one version; its champion unless you say which
publish name=NAME bundle=DIR [note.KEY=TEXT]  add a bundle under the next number
promote name=NAME version=N             make it the champion, the old one `previous`
rollback name=NAME                      make `previous` the champion again
verify [name=NAME]                      compare every file with its sum

version=N is a number, v0003, or champion, challenger, previous.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from core.errors import ConfigError
from pipelines import cli
from pipelines.registry.opening import open_registry
from pipelines.registry.registry import Registry
from pipelines.registry.version import CHAMPION, Version

Summary = dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """What a verb does and which keys it takes; one whose name ends in ? may be left out."""

    act: Callable[[Registry, DictConfig], Summary]
    takes: tuple[str, ...]


def list_models(registry: Registry, config: DictConfig) -> Summary:
    names = registry.names() if config.name is None else [config.name]
    models = {name: _versions(registry, name) for name in names}
    for versions in models.values():
        for v in versions:
            pointing = ", ".join(v["aliases"])
            print(
                f"{v['version']:24} {v['created']}  {v['model_version']}  {pointing}",
                file=sys.stderr,
            )
    return {"models": models}


def show(registry: Registry, config: DictConfig) -> Summary:
    version = registry.resolve(f"{config.name}@{config.version or CHAMPION}")
    return _described(version, registry.aliases(version.name))


def publish(registry: Registry, config: DictConfig) -> Summary:
    version = registry.publish(config.name, Path(config.bundle), dict(config.note))
    return _described(version, registry.aliases(version.name))


def promote(registry: Registry, config: DictConfig) -> Summary:
    was = registry.aliases(config.name).get(CHAMPION)
    chosen = registry.resolve(f"{config.name}@{config.version}")
    promoted = registry.promote(config.name, chosen.number)
    return {**_described(promoted, registry.aliases(promoted.name)), "was": was}


def rollback(registry: Registry, config: DictConfig) -> Summary:
    was = registry.aliases(config.name).get(CHAMPION)
    version = registry.rollback(config.name)
    return {**_described(version, registry.aliases(version.name)), "was": was}


def verify(registry: Registry, config: DictConfig) -> Summary:
    """Raises ConfigError, with every damaged version named."""
    names = registry.names() if config.name is None else [config.name]
    damage = [said for name in names for said in registry.verify(name).values()]
    if damage:
        raise ConfigError(f"{len(damage)} damaged: " + "; ".join(damage))
    return {"verified": {name: len(registry.versions(name)) for name in names}}


VERBS = {
    "list": Verb(list_models, ("name?",)),
    "show": Verb(show, ("name", "version?")),
    "publish": Verb(publish, ("name", "bundle", "note?")),
    "promote": Verb(promote, ("name", "version")),
    "rollback": Verb(rollback, ("name",)),
    "verify": Verb(verify, ("name?",)),
}
_KEYS = ("name", "version", "bundle", "note")


def command(verb: str, config: DictConfig) -> Summary:
    """One verb on the configured registry; returns the summary."""
    _check_keys(verb, config)
    done = VERBS[verb].act(open_registry(config.registry), config)
    return {"command": "registry", "verb": verb, **done}


def _check_keys(verb: str, config: DictConfig) -> None:
    takes = VERBS[verb].takes
    missing = [key for key in takes if key in _KEYS and not config[key]]
    if missing:
        raise ConfigError(f"{verb}: missing: {', '.join(f'{key}=...' for key in missing)}")
    for key in _KEYS:
        if config[key] and key not in takes and f"{key}?" not in takes:
            known = " ".join(f"{name.removesuffix('?')}=..." for name in takes)
            raise ConfigError(f"{verb}: takes no {key}=, only {known}")


def _versions(registry: Registry, name: str) -> list[Summary]:
    aliases = registry.aliases(name)
    return [_described(version, aliases) for version in registry.versions(name)]


def _described(version: Version, aliases: dict[str, int]) -> Summary:
    return {
        "name": version.name,
        "version": str(version),
        "number": version.number,
        "path": str(version.path),
        "created": version.created,
        "model_version": version.model_version,
        "aliases": [alias for alias, number in aliases.items() if number == version.number],
        "note": dict(version.note),
    }


def main() -> None:
    """Console script longstrand-registry."""
    verb = next(iter(sys.argv[1:]), "no verb")
    if verb in VERBS:
        del sys.argv[1]
        cli.run(functools.partial(command, verb), "registry")
    elif {"--help", "-h"} & set(sys.argv[1:]):
        print(__doc__)
        cli.run(functools.partial(command, "list"), "registry")
    else:
        said = f"found {verb}, expected first one of {', '.join(VERBS)}; --help says more"
        print(f"error: {said}", file=sys.stderr)
        print(json.dumps({"status": "failed", "exit_code": 2, "error": said}))
        sys.exit(2)
