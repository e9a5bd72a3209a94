"""What is particular to a registry that MLflow keeps."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from core.bundle_files import verify_bundle
from core.errors import ConfigError
from pipelines import mlflow_client
from pipelines.registry.mlflow_store import MlflowStore
from pipelines.registry.registry import Registry
from tests.pipelines.registry.conftest import Make


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_downloaded_bundle_is_kept_and_a_changed_one_downloaded_again(
    uri: str, tmp_path: Path, bundle: Make
) -> None:
    registry = Registry(MlflowStore(uri, tmp_path / "models"))
    registry.publish("fraud", bundle("one"))
    path = registry.resolve("fraud@v0001").path
    (path / "metrics.json").write_text("better")
    assert registry.resolve("fraud@v0001").path == path
    verify_bundle(path)
    shutil.rmtree(tmp_path / "mlflow.db-artifacts")
    assert registry.resolve("fraud@v0001").path == path
    assert "v0001" in registry.verify("fraud")


def test_two_machines_see_one_registry(uri: str, tmp_path: Path, bundle: Make) -> None:
    one = Registry(MlflowStore(uri, tmp_path / "one"))
    two = Registry(MlflowStore(uri, tmp_path / "two"))
    one.promote("fraud", one.publish("fraud", bundle("one")).number)
    found = two.resolve("fraud@champion")
    assert found.path.is_relative_to(tmp_path / "two")
    verify_bundle(found.path)


def test_a_model_of_somebody_else_is_left_alone(uri: str, tmp_path: Path, bundle: Make) -> None:
    store = MlflowStore(uri, tmp_path / "models")
    store.client.create_registered_model("theirs")
    registry = Registry(store)
    with pytest.raises(ConfigError, match="none of longstrand's"):
        registry.publish("theirs", bundle("one"))
    assert registry.names() == []


def test_a_model_that_another_machine_makes_meanwhile_is_used(
    uri: str, tmp_path: Path, bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (MlflowStore(uri, tmp_path / name) for name in ("one", "two"))
    looked_up, others = two._model, bundle("one")

    def meanwhile(name: str) -> object:
        monkeypatch.setattr(two, "_model", looked_up)
        found = looked_up(name)
        Registry(one).publish(name, others)
        return found

    monkeypatch.setattr(two, "_model", meanwhile)
    assert Registry(two).publish("fraud", bundle("two")).number == 2


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://db/mlflow", "expected sqlite:///FILE or a server's"),
        ("https://me:secret@mlflow.bank", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(
    tmp_path: Path, address: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        MlflowStore(address, tmp_path)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("remember the milk")
    with pytest.raises(ConfigError, match=r"notes\.db: found a file that is no sqlite database"):
        mlflow_client.connect(f"sqlite:///{tmp_path / 'notes.db'}")


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r'pip install "longstrand\[mlflow\]"'):
        mlflow_client.connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
