"""A registry of published bundles: what promotion and rollback mean, over any store.

Every change is ordered so that the champion can be loaded whenever a process is killed: a version
is whole before it has a number, and `previous` is written before `champion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from core.bundle_files import bundle_version, verify_bundle
from core.errors import ConfigError
from pipelines import locks
from pipelines.registry.store import Store
from pipelines.registry.version import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    Version,
    check_alias,
    check_name,
    label,
    parse_reference,
)


@dataclass(frozen=True)
class Registry:
    """Published bundles by name and number, and which of them are in use."""

    store: Store

    def names(self) -> list[str]:
        return self.store.names()

    def versions(self, name: str) -> list[Version]:
        """Oldest first."""
        check_name(name)
        return [self.store.read(name, number) for number in self.store.numbers(name)]

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> version number, of those that point somewhere."""
        check_name(name)
        return self.store.aliases(name)

    def publish(self, name: str, bundle: Path, note: Mapping[str, str] | None = None) -> Version:
        """Copy a bundle in under the next free number. The same bundle with the same
        note["source_key"] (or none) is published once: a repeat gets the version that is there,
        unless that is damaged.

        Raises:
            ConfigError: no bundle, a damaged one, or a note that is not text.
        """
        note = dict(note or {})
        check_name(name)
        _check_note(note)
        verify_bundle(bundle)
        with self._writing(name):
            same = self._published(name, bundle_version(bundle), note.get("source_key"))
            return same or self.store.add(name, bundle, note)

    def resolve(self, reference: str) -> Version:
        """fraud@champion, fraud@v0003, or fraud (its champion) -> a version whose `path` is there.

        Raises:
            ConfigError: no such model, alias or version.
        """
        wanted = parse_reference(reference)
        if wanted.number is not None:
            version = self.store.read(wanted.name, wanted.number)
            self.store.fetch(version)
            return version
        assert wanted.alias is not None
        version = self.alias(wanted.name, wanted.alias)
        if version is None:
            raise ConfigError(f"{wanted.name}@{wanted.alias}: {self._nowhere(wanted.name)}")
        return version

    def alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias points at, its `path` there; None where it points nowhere."""
        check_alias(alias)
        number = self.store.aliases(name).get(alias)
        if number is None:
            return None
        version = self.store.read(name, number)
        self.store.fetch(version)
        return version

    def promote(self, name: str, number: int, judged_against: int | None = None) -> Version:
        """Make a version the champion and the old champion `previous`. Repeating it, also after
        a kill in the middle, ends the same.

        Args:
            judged_against: the champion that the version was found better than; None skips the
                check that it is champion still.

        Raises:
            ConfigError: no such version, a damaged one, or another champion than was judged.
        """
        version = self._sound(name, number)
        with self._writing(name):
            aliases = self.store.aliases(name)
            champion = aliases.get(CHAMPION)
            if judged_against is not None and champion not in (judged_against, number):
                raise ConfigError(
                    f"{version}: was judged against {label(judged_against)}, but the champion is "
                    f"{_shown(champion)} by now; judge it again"
                )
            if champion not in (None, number):
                self.store.point(name, PREVIOUS, champion)
            if champion != number:
                self.store.point(name, CHAMPION, number)
            if aliases.get(CHALLENGER) == number:
                self.store.unpoint(name, CHALLENGER)
        return version

    def rollback(self, name: str) -> Version:
        """Make `previous` the champion again. `previous` then points nowhere, so that a second
        rollback cannot bring the bad version back. Where a killed promotion or rollback left
        both at one version, that version stays the champion.

        Raises:
            ConfigError: there is no previous version, or it is damaged.
        """
        self._check_known(name)
        with self._writing(name):
            aliases = self.store.aliases(name)
            number = aliases.get(PREVIOUS)
            if number is None:
                raise ConfigError(
                    f"{name}: there is no previous version to go back to; the champion is "
                    f"{_shown(aliases.get(CHAMPION))}. Choose one: python -m pipelines.registry "
                    f"promote name={name} version=N, of {self._labels(name)}"
                )
            version = self._sound(name, number)
            self.store.point(name, CHAMPION, number)
            self.store.unpoint(name, PREVIOUS)
        return version

    def point(self, name: str, alias: str, number: int) -> Version:
        """Point one alias at a version and touch no other."""
        check_alias(alias)
        version = self._sound(name, number)
        with self._writing(name):
            self.store.point(name, alias, number)
        return version

    def verify(self, name: str) -> dict[str, str]:
        """What is damaged, by its label or alias, and how; empty when all is sound."""
        self._check_known(name)
        damage: dict[str, str] = {}
        numbers = self.store.numbers(name)
        for number in numbers:
            try:
                self.store.check(self.store.read(name, number))
            except ConfigError as error:
                damage[label(number)] = str(error)
        for alias, number in self.store.aliases(name).items():
            if number not in numbers:
                damage[alias] = f"{name}@{alias}: points at {label(number)}, which is not there"
        return damage

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold the model for a job that must not run twice at once, such as a retraining.
        Promotion and rollback by hand stay possible meanwhile.

        Raises:
            LockHeldError: somebody holds it; says who.
        """
        check_name(name)
        refusal = f"{name}: another job holds this model; wait for it or stop it"
        return locks.held(self.store.home(name) / ".lock", refusal)

    def _writing(self, name: str) -> AbstractContextManager[None]:
        return locks.waited_for(self.store.home(name) / ".writing")

    def _sound(self, name: str, number: int) -> Version:
        check_name(name)
        version = self.store.read(name, number)
        self.store.check(version)
        return version

    def _published(self, name: str, model_version: str, source_key: str | None) -> Version | None:
        for version in self.versions(name):
            same = version.model_version == model_version
            if same and version.note.get("source_key") == source_key and self._is_sound(version):
                return version
        return None

    def _is_sound(self, version: Version) -> bool:
        try:
            self.store.check(version)
        except ConfigError:
            return False
        return True

    def _check_known(self, name: str) -> None:
        check_name(name)
        if not self.store.numbers(name):
            there = ", ".join(self.names()) or "none"
            raise ConfigError(f"{name}: found no model of this name; there are: {there}")

    def _nowhere(self, name: str) -> str:
        self._check_known(name)
        pointing = ", ".join(f"{a} ({label(n)})" for a, n in self.store.aliases(name).items())
        return (
            f"points nowhere; aliases that do: {pointing or 'none'}; versions: {self._labels(name)}"
        )

    def _labels(self, name: str) -> str:
        return ", ".join(label(number) for number in self.store.numbers(name)) or "none"


def _shown(number: int | None) -> str:
    return "nobody" if number is None else label(number)


def _check_note(note: Mapping[str, str]) -> None:
    for key, value in note.items():
        if not isinstance(value, str):
            raise ConfigError(f"note: found {value!r} for {key!r}, expected text")
