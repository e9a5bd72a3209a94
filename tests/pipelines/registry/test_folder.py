"""A process killed before any of its file operations leaves a champion that loads, whole versions
only, and a command that ends the same when it is repeated."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.bundle_files import verify_bundle
from core.errors import ConfigError
from pipelines.registry.folder import FolderStore
from pipelines.registry.registry import Registry
from tests.pipelines.registry.conftest import Make

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "open"}


def _killed_before(nth: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that kill -9 stops before its nth change to a file; False where it
    ended before that."""
    child = os.fork()
    if child == 0:
        left = nth

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _CHANGES and (event != "open" or arguments[2] & os.O_ACCMODE):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("verb", ["publish", "promote", "rollback"])
def test_a_kill_at_any_point_leaves_a_champion_that_loads(
    tmp_path: Path, bundle: Make, verb: str
) -> None:
    before, fresh = tmp_path / "before", bundle("three")
    registry = Registry(FolderStore(before))
    for number, text in enumerate(("one", "two"), 1):
        registry.publish("fraud", bundle(text))
        registry.promote("fraud", number)
    registry.point("fraud", "challenger", 1)
    act, ends = {
        "publish": (
            lambda r: r.publish("fraud", fresh),
            {"champion": 2, "challenger": 1, "previous": 1},
        ),
        "promote": (lambda r: r.promote("fraud", 1), {"champion": 1, "previous": 2}),
        "rollback": (lambda r: r.rollback("fraud"), {"champion": 1, "challenger": 1}),
    }[verb]
    kills = 0
    while True:
        models = tmp_path / f"after-{kills}"
        shutil.copytree(before, models)
        after = Registry(FolderStore(models))
        killed = _killed_before(kills, functools.partial(act, after))
        verify_bundle(after.resolve("fraud@champion").path)
        assert after.verify("fraud") == {}
        if verb != "rollback" or after.aliases("fraud").get("previous"):
            act(after)
        assert after.aliases("fraud") == ends
        assert len(after.versions("fraud")) == (3 if verb == "publish" else 2)
        assert not list(models.glob("fraud/.publishing"))
        if not killed:
            break
        kills += 1
    assert kills >= {"publish": 20, "promote": 6, "rollback": 4}[verb]


def test_a_published_bundle_is_read_only(tmp_path: Path, bundle: Make) -> None:
    version = Registry(FolderStore(tmp_path / "models")).publish("fraud", bundle("one"))
    modes = {stat.S_IMODE(p.stat().st_mode) for p in version.path.iterdir()}
    assert modes == {0o444}
    assert stat.S_IMODE(version.path.stat().st_mode) == 0o555


def test_an_alias_that_points_at_nothing_is_named(tmp_path: Path, bundle: Make) -> None:
    registry = Registry(FolderStore(tmp_path / "models"))
    registry.publish("fraud", bundle("one"))
    (tmp_path / "models/fraud/champion").write_text("v0007\n")
    assert "points at v0007, which is not there" in registry.verify("fraud")["champion"]
    with pytest.raises(ConfigError, match=r"v0007: there is no such version in .*; found v0001"):
        registry.resolve("fraud")


def test_a_replaced_bundle_is_not_the_published_one(tmp_path: Path, bundle: Make) -> None:
    registry = Registry(FolderStore(tmp_path / "models"))
    version = registry.publish("fraud", bundle("one"))
    version.path.chmod(0o755)
    shutil.rmtree(version.path)
    shutil.copytree(bundle("two"), version.path)
    assert "the bundle was replaced" in registry.verify("fraud")["v0001"]
