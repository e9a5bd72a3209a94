"""Each file of a folder or glob scored by itself, into a folder.

What is finished is written down in <output>.parts/ until all are, so that a run which was killed
goes on where it was.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.digest import sha256
from core.errors import ConfigError
from pipelines import runs
from pipelines.locks import held_folder

log = logging.getLogger("longstrand.score")


@dataclass(frozen=True)
class Known:
    """Where it is written down that an output is finished."""

    path: Path

    def summary(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was found then; None where it was for another input, model or settings, or an
        output is not as it was left."""
        if not self.path.is_file():
            return None
        kept = json.loads(self.path.read_text())
        if kept["identity"] != identity or kept["digests"] != _digests(kept["found"]["files"]):
            return None
        found: dict[str, Any] = kept["found"]
        return {**found, "resumed": found["partitions"]}

    def keep(self, identity: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        digests = _digests(found["files"])
        runs.write_json(self.path, {"identity": identity, "found": found, "digests": digests})


def score_each(
    files: Mapping[str, Path],
    output: Path,
    scored: Callable[[Path, Path, Known], dict[str, Any]],
) -> dict[str, Any]:
    """The sums of what `scored` of each file, by name, returns.

    Args:
        scored: of an input, its output, and where that is written down.

    Raises:
        ConfigError: the output is a file, or called like one, or holds an input.
    """
    like_file = output.suffix != "" and any(name.endswith(output.suffix) for name in files)
    if not output.is_dir() and (output.exists() or like_file):
        raise ConfigError(
            f"output: found {output} for {len(files)} files, expected a folder, where each has its "
            "scores under its own name"
        )
    for name, input in files.items():
        if (output / name).resolve() == input.resolve():
            raise ConfigError(f"output: {output / name} is an input; name another folder")
    work = output.with_name(output.name + ".parts")
    found: list[dict[str, Any]] = []
    with held_folder(work):
        for at, (name, input) in enumerate(files.items()):
            log.info("input", extra={"facts": {"file": name, "number": at + 1, "of": len(files)}})
            found.append(scored(input, output / name, Known(work / f"{name}.json")))
        shutil.rmtree(work)
    return _sums(found)


def _sums(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for one in found:
        reasons.update(one["reasons"])
    sums = {
        key: sum(one[key] for one in found) for key in ("rows", "scored", "partitions", "resumed")
    }
    written = [file for one in found for file in one["files"]]
    return {
        "inputs": len(found),
        **sums,
        "reasons": dict(sorted(reasons.items())),
        "files": written,
    }


def _digests(files: Sequence[str]) -> dict[str, str | None]:
    """SHA-256 of each; None where it is gone."""
    return {name: sha256(Path(name)) if Path(name).is_file() else None for name in files}
