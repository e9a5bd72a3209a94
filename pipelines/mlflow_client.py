"""The one way to an MLflow server, or to the sqlite file that stands in for one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from pipelines import locks

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
# What is trained here is nobody else's business, standard output is for the summary, and a cron job
# should hear within a minute that there is no server.
_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
}


def check_uri(uri: str, option: str) -> None:
    """Raises ConfigError for what is neither a sqlite file nor a server, or holds a password."""
    if not uri.startswith((_SQLITE, "http://", "https://")):
        raise ConfigError(
            f"{option}: found {uri!r}, expected sqlite:///FILE or a server's http(s):// address"
        )
    if not uri.startswith(_SQLITE) and "@" in uri:
        raise ConfigError(
            f"{option}: found an address with a user in it, which would end up in files; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )


def connect(uri: str) -> MlflowClient:
    """A client whose database is there. A new sqlite file is made by one process at a time: two at
    once break each other's migration.

    Raises:
        ConfigError: mlflow is not installed, nothing answers at `uri`, or its file is no database.
    """
    _check_database(uri)
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'mlflow: {error}; install the extra: pip install "longstrand[mlflow]"'
        ) from None
    with _alone(uri), answers(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    return client


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Id of the experiment called `name`, made where it is missing. A server chooses where its
    files lie; those of a sqlite file lie beside it."""
    with _alone(uri), answers(uri):
        if client.get_experiment_by_name(name) is None:
            with unless_there():
                client.create_experiment(name, artifact_location=_artifacts(uri, name))
        found = client.get_experiment_by_name(name)
    assert found is not None
    if found.lifecycle_stage == "deleted":
        raise ConfigError(f"mlflow at {uri}: the experiment {name!r} was deleted; restore it there")
    return found.experiment_id


@contextlib.contextmanager
def unless_there() -> Iterator[None]:
    """Make something, unless another machine has made it a moment ago."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextlib.contextmanager
def answers(uri: str) -> Iterator[None]:
    """What MLflow objects to, as one sentence that says where."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = str(error).strip().splitlines()[0]
        raise ConfigError(f"mlflow at {uri}: {said}") from error


def missing(error: ConfigError) -> bool:
    """Whether MLflow said that something isn't there."""
    return getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


def _artifacts(uri: str, name: str) -> str | None:
    if not uri.startswith(_SQLITE):
        return None
    database = _database(uri)
    return (database.with_name(f"{database.name}-artifacts") / name).as_uri()


def _alone(uri: str) -> contextlib.AbstractContextManager[Any]:
    if not uri.startswith(_SQLITE):
        return contextlib.nullcontext()
    database = _database(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    return locks.waited_for(database.with_name(f".{database.name}.lock"))


def _check_database(uri: str) -> None:
    database = _database(uri)
    if uri.startswith(_SQLITE) and database.is_file() and database.stat().st_size:
        with database.open("rb") as f:
            if f.read(16) != b"SQLite format 3\0":
                raise ConfigError(f"{database}: found a file that is no sqlite database")


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(_SQLITE)).resolve()
