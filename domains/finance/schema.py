"""The schema file: which column plays which role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from core.errors import ConfigError
from domains.finance.clock import Clock
from domains.finance.config import FinanceData, parse_delay

_KEYS = {
    "id",
    "time",
    "time_zone",
    "amount",
    "entities",
    "categorical",
    "numeric",
    "label",
    "label_delay",
    "kind",
}
READY = Path(__file__).parent / "schemas"
_REQUIRED = ("time", "amount", "entities")


@dataclass(frozen=True)
class Schema:
    """Roles of columns; a column without a role is carried along untouched.

    Args:
        id: unique name of a row; None where the file has none and a row is named by its place.
        time: when it happened; values without an offset are in `time_zone`.
        amount: in one currency.
        entities: name used in views -> column.
        label: 1 or true is fraud, 0 or false legitimate, empty not known; None when there is none.
        label_delay: microseconds after which a label counts as known; 0 where there is none.
        kind: of a fraud, for figures by kind: never an input; None where there is no such column.
    """

    id: str | None
    time: Clock
    time_zone: str
    amount: str
    entities: Mapping[str, str]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    label: str | None
    label_delay: int
    kind: str | None = None

    @property
    def columns(self) -> list[str]:
        """Columns that must be there to score; the label is needed only to train."""
        named = [*([self.id] if self.id else []), *self.time.columns, self.amount]
        return [*named, *self.entities.values(), *self.categorical, *self.numeric]

    def to_dict(self) -> dict[str, Any]:
        """The mapping that a schema file holds."""
        labelled = {"label": self.label, "label_delay": f"{self.label_delay // 1_000_000}s"}
        return {
            "id": self.id,
            "time": self.time.stated(),
            "time_zone": self.time_zone,
            "amount": self.amount,
            "entities": dict(self.entities),
            "categorical": list(self.categorical),
            "numeric": list(self.numeric),
            **(labelled if self.label else {}),
            "kind": self.kind,
        }


def named_schema(data: FinanceData) -> Schema:
    """The schema that a configuration names, or carries.

    Raises:
        ConfigError: it does neither.
    """
    if data.schema:
        return load_schema(data.schema)
    if data.roles:
        return parse_schema("data.roles", dict(data.roles))
    raise ConfigError(
        "domain.data.schema: found nothing, expected a file; name a ready one "
        f"({', '.join(ready_schemas())}) or write a YAML file that maps your columns to roles"
    )


def load_schema(name: str) -> Schema:
    """Read a schema file, or the ready one of that name.

    Raises:
        ConfigError: the file is missing, or says something that a schema cannot.
    """
    path = READY / f"{name}.yaml" if name in ready_schemas() else Path(name)
    if not path.is_file():
        raise ConfigError(
            f"domain.data.schema: found no file {name}; write one that maps your columns to roles, "
            f"or name a ready one: {', '.join(ready_schemas())}"
        )
    try:
        stated = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    return parse_schema(str(path), stated)


def ready_schemas() -> list[str]:
    """Names of the schemas that come with the package."""
    return sorted(path.stem for path in READY.glob("*.yaml"))


def parse_schema(where: str, stated: Any) -> Schema:
    """Check the mapping of a schema file; `where` names it in messages."""
    if not isinstance(stated, dict):
        raise ConfigError(f"{where}: found no mapping, expected keys {', '.join(_REQUIRED)}")
    unknown = sorted(str(key) for key in set(stated) - _KEYS)
    # No entity at all is something to say, not to forget: entities: {}.
    missing = [key for key in _REQUIRED if stated.get(key) in (None, "")]
    if unknown or missing:
        raise ConfigError(
            f"{where}: unknown keys: {', '.join(unknown) or 'none'}; missing keys: "
            f"{', '.join(missing) or 'none'}; expected keys are {', '.join(sorted(_KEYS))}"
        )
    entities = stated["entities"]
    if not isinstance(entities, dict) or not all(isinstance(v, str) for v in entities.values()):
        raise ConfigError(
            f"{where}: entities: found {type(entities).__name__}, expected a mapping of names to "
            "columns, such as {customer: CUSTOMER_ID}"
        )
    schema = Schema(
        id=stated.get("id"),
        time=Clock.parse(where, stated["time"]),
        time_zone=_time_zone(where, stated.get("time_zone", "UTC")),
        amount=stated["amount"],
        entities=entities,
        categorical=tuple(stated.get("categorical") or ()),
        numeric=tuple(stated.get("numeric") or ()),
        label=stated.get("label"),
        label_delay=_label_delay(where, stated),
        kind=stated.get("kind"),
    )
    if schema.label and schema.label_delay < 1:
        raise ConfigError(
            f"{where}: label_delay: found {stated['label_delay']!r}, expected a span above 0: no "
            "label is known at the moment of the transaction"
        )
    roles = schema.columns + [column for column in (schema.label, schema.kind) if column]
    twice = sorted({column for column in roles if roles.count(column) > 1})
    if twice:
        raise ConfigError(f"{where}: columns with two roles: {', '.join(twice)}; expected one each")
    return schema


def _label_delay(where: str, stated: Mapping[str, Any]) -> int:
    """Microseconds. A label has one, and nothing else does."""
    label, delay = stated.get("label"), stated.get("label_delay")
    if bool(label) != bool(delay):
        raise ConfigError(
            f"{where}: found label {label!r} with label_delay {delay!r}, expected both, or neither "
            "where nothing is labelled"
        )
    return parse_delay(f"{where}: label_delay", delay) if delay else 0


def _time_zone(where: str, name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            f"{where}: time_zone: found {name!r}, expected a name such as UTC or Europe/Brussels"
        ) from None
    return name
