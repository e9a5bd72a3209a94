"""A fraud training that begins from what was learned without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.pipelines.conftest import Outcome

TOWN = (
    "domain=finance",
    "trainer=debug",
    "model.dim=16",
    "domain.data.customers=30",
    "domain.data.terminals=40",
    "domain.data.days=50",
    "domain.split.test_from=2024-02-11",
    "domain.split.test_until=2024-02-19",
    "domain.views=[{key: [customer], window: 8}, {key: [terminal], window: 8}]",
)


def test_a_fraud_training_begins_from_a_surprise_bundle(
    command: Callable[..., Outcome], tmp_path: Path
) -> None:
    early = command("train", *TOWN, "task=surprise", "domain.split.train_before=2024-01-28")
    assert early.code == 0, early.stderr
    table = "The 50 most surprising rows"
    assert table in (tmp_path / early.summary["run"] / "report.html").read_text()
    begun = command(
        "train", *TOWN, "domain.split.train_before=2024-02-04", f"init={early.summary['bundle']}"
    )
    assert begun.code == 0, begun.stderr
    assert begun.summary["init"]["taken"] > 30
    assert begun.summary["init"]["new"] == 5  # two layers of the head and the direct path
