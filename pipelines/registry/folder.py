"""A registry that is a folder: git, rsync and a person with `cat` can handle it.

<root>/<name>/
  v0001/        the bundle, read-only
  v0001.json    when it was published, its model version, its note
  champion      "v0001": an alias; so are challenger and previous
  .lock         held by a job such as a retraining
  .writing      held while a version or an alias is written
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.bundle_files import bundle_version, verify_bundle
from core.errors import ConfigError
from pipelines.registry import durable
from pipelines.registry.version import ALIASES, Version, check_name, label, parse_number

_FOLDER = re.compile(r"v\d{4,}")


@dataclass(frozen=True)
class FolderStore:
    """Versions under `root`."""

    root: Path

    def names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and self.numbers(p.name))

    def numbers(self, name: str) -> list[int]:
        folder = self.root / name
        if not folder.is_dir():
            return []
        found = [p for p in folder.iterdir() if _FOLDER.fullmatch(p.name) and p.is_dir()]
        return sorted(parse_number(p.name) for p in found)

    def read(self, name: str, number: int) -> Version:
        path = self.root / name / label(number)
        if not path.is_dir():
            there = ", ".join(map(label, self.numbers(name))) or "no version"
            raise ConfigError(f"{path}: there is no such version in {self.root}; found {there}")
        described = path.with_suffix(".json")
        try:
            words = json.loads(described.read_text())
            return Version(
                name, number, path, words["created"], words["model_version"], words["note"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{described}: found {type(error).__name__} ({error}), expected what was written "
                "when the version was published; copy the file again, or move the version away"
            ) from error

    def add(self, name: str, bundle: Path, note: Mapping[str, str]) -> Version:
        home = self.home(name)
        staging = home / ".publishing"
        _remove(staging)  # of a publisher that was killed: only one at a time comes here
        staging.mkdir()
        for path in bundle.iterdir():
            shutil.copyfile(path, staging / path.name)
        verify_bundle(staging)
        durable.sync_tree(staging)
        for path in staging.iterdir():
            path.chmod(0o444)
        staging.chmod(0o555)
        number = max(self.numbers(name), default=0) + 1
        path = home / label(number)
        words = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model_version": bundle_version(staging),
            "note": dict(note),
        }
        durable.write_text(path.with_suffix(".json"), json.dumps(words, indent=1) + "\n")
        os.rename(staging, path)
        durable.sync_folder(home)
        return self.read(name, number)

    def fetch(self, version: Version) -> None:
        """It is there already."""

    def check(self, version: Version) -> None:
        verify_bundle(version.path)
        found = bundle_version(version.path)
        if found != version.model_version:
            raise ConfigError(
                f"{version.path}: model version {found}, published as {version.model_version}: the "
                "bundle was replaced; copy the published one back or move the version away"
            )

    def aliases(self, name: str) -> dict[str, int]:
        found = {}
        for alias in ALIASES:
            path = self.root / name / alias
            if path.is_file():
                try:
                    found[alias] = parse_number(path.read_text().strip())
                except ConfigError as error:
                    raise ConfigError(f"{path}: {error}") from None
        return found

    def point(self, name: str, alias: str, number: int) -> None:
        durable.write_text(self.root / name / alias, label(number) + "\n")

    def unpoint(self, name: str, alias: str) -> None:
        (self.root / name / alias).unlink(missing_ok=True)
        durable.sync_folder(self.root / name)

    def home(self, name: str) -> Path:
        check_name(name)
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _remove(folder: Path) -> None:
    if folder.exists():
        folder.chmod(0o755)
        shutil.rmtree(folder)
