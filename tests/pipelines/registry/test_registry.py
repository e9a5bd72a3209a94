"""What publishing, promoting and rolling back mean, over every kind of store."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from omegaconf import DictConfig

from core.bundle_files import bundle_version, verify_bundle
from core.errors import ConfigError, LockHeldError
from pipelines.registry.opening import open_registry
from pipelines.registry.registry import Registry
from tests.pipelines.registry.conftest import Make, make_bundle


def damage(folder: Path, text: str, file: str) -> None:
    """Change the copy that a store under `folder` keeps of `file` of the bundle `text`."""
    kept = [p for p in folder.rglob(file) if p.read_text() == f"{file} {text}\n"]
    kept = [p for p in kept if "bundles" not in p.parts]
    assert len(kept) == 1
    kept[0].chmod(0o644)
    kept[0].write_text("damaged")


def _three(registry: Registry, bundle: Make) -> None:
    for text in ("one", "two", "three"):
        registry.publish("fraud", bundle(text))


def test_a_published_version_is_the_bundle_with_its_note(registry: Registry, bundle: Make) -> None:
    source = bundle("one")
    version = registry.publish("fraud", source, {"as_of": "2026-06-01"})
    found = registry.resolve("fraud@v0001")
    assert found == version
    assert (found.number, dict(found.note)) == (1, {"as_of": "2026-06-01"})
    assert found.model_version == bundle_version(source) == bundle_version(found.path)
    verify_bundle(found.path)
    assert registry.names() == ["fraud"]


def test_a_repeated_publication_finds_its_version(registry: Registry, bundle: Make) -> None:
    one, two = bundle("one"), bundle("two")
    first = registry.publish("fraud", one, {"source_key": "june"})
    other = registry.publish("fraud", two, {"source_key": "june"})
    again = registry.publish("fraud", one, {"source_key": "june"})
    july = registry.publish("fraud", one, {"source_key": "july"})
    assert [v.number for v in (first, other, again, july)] == [1, 2, 1, 3]


def test_a_damaged_bundle_is_not_published(registry: Registry, bundle: Make) -> None:
    source = bundle("one")
    (source / "metrics.json").write_text("better")
    with pytest.raises(ConfigError, match=r"metrics\.json: SHA-256"):
        registry.publish("fraud", source)
    assert registry.versions("fraud") == []


def test_promotion_keeps_the_old_champion_as_previous(registry: Registry, bundle: Make) -> None:
    _three(registry, bundle)
    registry.point("fraud", "challenger", 2)
    registry.promote("fraud", 1)
    assert registry.aliases("fraud") == {"champion": 1, "challenger": 2}
    for _ in range(2):  # a repeat changes nothing
        registry.promote("fraud", 2)
        assert registry.aliases("fraud") == {"champion": 2, "previous": 1}
    assert registry.resolve("fraud").number == 2
    assert registry.alias("fraud", "challenger") is None


def test_a_rollback_brings_the_previous_champion_back_once(
    registry: Registry, bundle: Make
) -> None:
    _three(registry, bundle)
    for number in (1, 2, 3):
        registry.promote("fraud", number)
    assert registry.rollback("fraud").number == 2
    assert registry.aliases("fraud") == {"champion": 2}
    with pytest.raises(ConfigError, match=r"no previous version to go back to.*v0002"):
        registry.rollback("fraud")
    assert registry.aliases("fraud") == {"champion": 2}


def test_a_promotion_is_refused_when_the_champion_is_not_the_one_judged_against(
    registry: Registry, bundle: Make
) -> None:
    _three(registry, bundle)
    registry.promote("fraud", 2)
    with pytest.raises(ConfigError, match="judged against v0001, but the champion is v0002"):
        registry.promote("fraud", 3, judged_against=1)
    assert registry.promote("fraud", 3, judged_against=2).number == 3
    assert registry.promote("fraud", 3, judged_against=2).number == 3


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("fraud@v0009", "v0009: there is no such version in .*; found v0001"),
        ("fraud@challenger", "points nowhere; aliases that do: none; versions: v0001"),
        ("fruad", "found no model of this name; there are: fraud"),
        ("fraud@best", "found 'best' after the @"),
        ("../fraud", "expected letters"),
    ],
)
def test_an_unknown_reference_is_answered_with_what_there_is(
    registry: Registry, bundle: Make, reference: str, said: str
) -> None:
    registry.publish("fraud", bundle("one"))
    with pytest.raises(ConfigError, match=said):
        registry.resolve(reference)


def test_verify_names_the_damaged_version_and_it_cannot_be_promoted(
    registry: Registry, bundle: Make, tmp_path: Path
) -> None:
    _three(registry, bundle)
    assert registry.verify("fraud") == {}
    damage(tmp_path, "two", "calibration.json")
    found = registry.verify("fraud")
    assert list(found) == ["v0002"]
    assert "calibration.json: SHA-256" in found["v0002"]
    with pytest.raises(ConfigError, match=r"calibration\.json"):
        registry.promote("fraud", 2)
    assert registry.aliases("fraud") == {}


def test_a_repeat_does_not_find_a_damaged_version(
    registry: Registry, bundle: Make, tmp_path: Path
) -> None:
    source = bundle("one")
    registry.publish("fraud", source)
    damage(tmp_path, "one", "metrics.json")
    assert registry.publish("fraud", source).number == 2
    assert list(registry.verify("fraud")) == ["v0001"]


def test_a_second_holder_hears_who_holds_the_model(registry: Registry) -> None:
    with registry.lock("fraud"), pytest.raises(LockHeldError) as refused:  # noqa: SIM117
        with registry.lock("fraud"):
            pass
    assert refused.value.exit_code == 75
    assert f"pid {os.getpid()}, host" in str(refused.value)
    with registry.lock("fraud"):
        pass


def _publish(node: DictConfig, folder: Path, writer: int) -> None:
    registry = open_registry(node)
    for i in range(2):
        version = registry.publish("fraud", make_bundle(folder / f"{writer}-{i}", f"{writer}-{i}"))
        registry.promote("fraud", version.number)


def test_writers_at_once_give_distinct_whole_versions(node: DictConfig, tmp_path: Path) -> None:
    if node.kind == "mlflow":
        node.uri = f"sqlite:///{tmp_path / 'made-by-whoever-comes-first.db'}"
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_publish, args=(node, tmp_path / "bundles", writer))
        for writer in range(3)
    ]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0, 0, 0]
    registry = open_registry(node)
    assert [v.number for v in registry.versions("fraud")] == list(range(1, 7))
    assert registry.verify("fraud") == {}
    assert set(registry.aliases("fraud")) == {"champion", "previous"}
