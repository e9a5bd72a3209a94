"""A registry kept by MLflow: a version is a model version whose artifact is the bundle.

Under `root` lie the locks of this machine and the bundles that were downloaded, each under its
model version, compared with its sums whenever it is asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.bundle_files import bundle_version, verify_bundle
from core.errors import ConfigError
from pipelines import mlflow_client
from pipelines.registry.version import ALIASES, Version, check_name, label

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

EXPERIMENT = "longstrand-registry"
_KIND, _BUNDLE = "longstrand", "bundle"
_MODEL_VERSION, _NOTE = "longstrand.model_version", "longstrand.note"


class MlflowStore:
    """Versions at `uri`.

    Raises:
        ConfigError: mlflow is not installed, or nothing answers at `uri`.
    """

    def __init__(self, uri: str, root: Path) -> None:
        mlflow_client.check_uri(uri, "registry.uri")
        self.uri, self.root = uri, root
        self.client = mlflow_client.connect(uri)

    def names(self) -> list[str]:
        with self._answers():
            ours, token = [], None
            while token != "":
                page = self.client.search_registered_models(
                    f"tags.{_KIND} = '{_BUNDLE}'", max_results=100, page_token=token
                )
                ours += [model.name for model in page]
                token = page.token or ""
        return sorted(ours)

    def numbers(self, name: str) -> list[int]:
        with self._answers():
            found, token = [], None
            while token != "":
                page = self.client.search_model_versions(
                    f"name = '{name}'", max_results=100, page_token=token
                )
                found += [int(v.version) for v in page if _MODEL_VERSION in v.tags]
                token = page.token or ""
        return sorted(found)

    def read(self, name: str, number: int) -> Version:
        kept = self._model_version(name, number)
        try:
            model_version, note = kept.tags[_MODEL_VERSION], json.loads(kept.tags[_NOTE])
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"{name} version {number} in {self.uri}: found no tag {error}; expected a version "
                "that pipelines.registry published"
            ) from error
        created = datetime.fromtimestamp(kept.creation_timestamp / 1000, UTC)
        path = self.root / name / ".downloads" / model_version
        return Version(
            name, number, path, created.isoformat(timespec="seconds"), model_version, note
        )

    def add(self, name: str, bundle: Path, note: Mapping[str, str]) -> Version:
        self._make_model(name)
        model_version = bundle_version(bundle)
        experiment = mlflow_client.experiment(self.client, self.uri, EXPERIMENT)
        with self._answers():
            run = self.client.create_run(experiment, run_name=f"{name} {model_version}").info
            self.client.log_artifacts(run.run_id, str(bundle), _BUNDLE)
        source = f"{run.artifact_uri}/{_BUNDLE}"
        with self._downloaded(source, model_version), self._answers():
            kept = self.client.create_model_version(
                name,
                source=source,
                run_id=run.run_id,
                tags={_MODEL_VERSION: model_version, _NOTE: json.dumps(dict(note))},
            )
            self.client.set_terminated(run.run_id)
        return self.read(name, int(kept.version))

    def fetch(self, version: Version) -> None:
        if _holds(version):
            return
        version.path.parent.mkdir(parents=True, exist_ok=True)
        with self._downloaded(self._source(version), version.model_version) as folder:
            shutil.rmtree(version.path, ignore_errors=True)
            try:
                os.rename(folder, version.path)
            except OSError:
                # Somebody else may have put the same bundle there meanwhile.
                if not _holds(version):
                    raise

    def check(self, version: Version) -> None:
        with self._downloaded(self._source(version), version.model_version):
            pass

    def aliases(self, name: str) -> dict[str, int]:
        model = self._model(name)
        there = {} if model is None else model.aliases
        return {alias: int(there[alias]) for alias in ALIASES if alias in there}

    def point(self, name: str, alias: str, number: int) -> None:
        with self._answers():
            self.client.set_registered_model_alias(name, alias, str(number))

    def unpoint(self, name: str, alias: str) -> None:
        with self._answers():
            self.client.delete_registered_model_alias(name, alias)

    def home(self, name: str) -> Path:
        check_name(name)
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _answers(self) -> contextlib.AbstractContextManager[None]:
        return mlflow_client.answers(self.uri)

    def _model(self, name: str) -> RegisteredModel | None:
        try:
            with self._answers():
                return self.client.get_registered_model(name)
        except ConfigError as error:
            if mlflow_client.missing(error):
                return None
            raise

    def _make_model(self, name: str) -> None:
        model = self._model(name)
        if model is None:
            with self._answers(), mlflow_client.unless_there():
                self.client.create_registered_model(name, tags={_KIND: _BUNDLE})
            model = self._model(name)
        if model is None or model.tags.get(_KIND) != _BUNDLE:
            raise ConfigError(
                f"{name}: {self.uri} has a model of this name that is none of longstrand's; "
                "choose another name"
            )

    def _model_version(self, name: str, number: int) -> ModelVersion:
        try:
            with self._answers():
                return self.client.get_model_version(name, str(number))
        except ConfigError as error:
            if not mlflow_client.missing(error):
                raise
            there = ", ".join(map(label, self.numbers(name))) or "no version"
            raise ConfigError(
                f"{name}@{label(number)}: there is no such version in {self.uri}; found {there}"
            ) from None

    def _source(self, version: Version) -> str:
        with self._answers():
            return self.client.get_model_version_download_uri(version.name, str(version.number))

    @contextlib.contextmanager
    def _downloaded(self, source: str, model_version: str) -> Iterator[Path]:
        """The bundle at `source` in a temporary folder, found to be what was published."""
        from mlflow.artifacts import download_artifacts

        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as temporary:
            with self._answers():
                found = download_artifacts(
                    artifact_uri=source, dst_path=temporary, tracking_uri=self.uri
                )
            folder = Path(found)
            verify_bundle(folder)
            if bundle_version(folder) != model_version:
                raise ConfigError(
                    f"{source}: model version {bundle_version(folder)}, published as "
                    f"{model_version}: the bundle was replaced; copy the published one back"
                )
            yield folder


def _holds(version: Version) -> bool:
    """Whether `version.path` is the bundle that was published."""
    try:
        verify_bundle(version.path)
    except ConfigError:
        return False
    return bundle_version(version.path) == version.model_version
