"""The command as a person types it, with a domain that pipelines have never heard of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.bundle import load_bundle
from core.errors import ConfigError
from pipelines.retrain.job import day_of
from tests.pipelines.conftest import SMALL, Outcome


def test_a_third_domain_is_retrained(command: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = command("retrain", "domain=toy", "as_of=2024-01-01", *SMALL)
    assert outcome.code == 0, outcome.stderr
    assert (outcome.summary["promoted"], outcome.summary["version"]) == (True, 1)
    bundle = load_bundle(tmp_path / "models" / "sum" / "v0001")
    assert bundle.created == "2024-01-01T00:00:00+00:00"
    assert {field["field"] for field in bundle.reference} >= {"x0", "score", "label"}


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(ConfigError, match="as_of: found 'today', expected a date"):
        day_of("today")
