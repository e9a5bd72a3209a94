"""The saved model: a folder without a pickle in it, verified whenever it is loaded.

bundle.yaml        what it is: format, domain, task, data fingerprint, split, pattern, versions
model.safetensors  weights
tokenizer.json     what was fitted on training rows
calibration.json   raw number -> score
metrics.json       Metric rows, floors among them
reference.json     what later rows are compared with (core.drift)
MODEL_CARD.md      for people
SHA256SUMS         of all the above, in the format of sha256sum(1)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.bundle_files import FILES, bundle_version, verify_bundle
from core.calibration import Calibration
from core.digest import sha256
from core.errors import ConfigError
from core.model.encoder import EncoderConfig

FORMAT = 3
_REQUIRED = {
    "format": int,
    "domain": str,
    "task": str,
    "created": str,
    "fingerprint": str,
    "label_intervals": list,
    "encoder": dict,
    "config": dict,
    "versions": dict,
}
_LIBRARIES = ("longstrand", "torch", "pytorch-lightning", "polars", "numpy", "safetensors")


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle. `version` is the head of the SHA-256 of its SHA256SUMS: it changes
    whenever any byte of the bundle does, and scored files carry it. `training` is what its trainer
    was told, seed included; empty in bundles of older versions."""

    path: Path
    domain: str
    task: str
    created: str
    fingerprint: str
    label_intervals: list[str]
    config: dict[str, Any]
    encoder: EncoderConfig
    tokenizer: dict[str, Any]
    calibration: Calibration
    metrics: list[dict[str, Any]]
    reference: list[dict[str, Any]]
    version: str
    training: dict[str, Any]

    def state_dict(self) -> dict[str, Tensor]:
        """Weights on the CPU."""
        return load_file(str(self.path / "model.safetensors"))


def restore(bundle: Bundle, task: Any) -> tuple[Any, Any]:
    """The task's tokenizer and its module with the bundle's weights, in evaluation mode; where the
    bundle has several members, the ensemble of them.

    Raises:
        ConfigError: the weights do not fit the task's configuration.
    """
    tokenizer, state = task.load_tokenizer(bundle.tokenizer, bundle.config), bundle.state_dict()
    module = task.module(tokenizer, bundle.encoder)
    if count := _members(state):
        others = [task.module(tokenizer, bundle.encoder) for _ in range(count - 1)]
        module = module.ensemble([module, *others])
    module.load_state_dict(state)
    return tokenizer, module.eval()


def _members(state: Mapping[str, Tensor]) -> int:
    """Of an ensemble's weights how many trainings they are of, 0 of a single module's."""
    return len({name.split(".")[1] for name in state if name.startswith("members.")})


@dataclass(frozen=True)
class Begun:
    """What a training begins with.

    Args:
        taken: names of tensors that are the bundle's.
        new: names of tensors that are not.
    """

    tokenizer: Any
    module: Any
    taken: list[str]
    new: list[str]


def begin_from(
    bundle: Bundle,
    task: Any,
    encoder: EncoderConfig,
    tokenizer: Any,
    theirs: Mapping[str, Tensor],
) -> Begun:
    """The task's module with the bundle's weights to train on from.

    Args:
        tokenizer, theirs: what `Task.take_over` made of the bundle's.

    Of a bundle of another task the head (`SequenceModule.HEAD`) stays as it begins; everything
    else must be there in the same shape.

    Raises:
        ConfigError: the module has other tensors than the bundle, or the bundle is an ensemble.
    """
    module = task.module(tokenizer, encoder)
    own = module.state_dict()
    if count := _members(theirs):
        raise ConfigError(
            f"init: found a bundle of {count} members at {bundle.path}, expected one of a single "
            "training (trainer.members=1); begin anew (init=null)"
        )
    if bundle.task != task.name:
        theirs = {name: value for name, value in theirs.items() if not module.of_head(name)}
    wanted = [name for name in own if bundle.task == task.name or not module.of_head(name)]
    _check_fit(bundle, {name: own[name] for name in wanted}, theirs)
    module.load_state_dict({**own, **theirs})
    return Begun(tokenizer, module, wanted, [name for name in own if name not in theirs])


def _check_fit(bundle: Bundle, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raises ConfigError that names the first tensor that differs."""
    for name in [*own, *(name for name in theirs if name not in own)]:
        found, expected = (
            tuple(part[name].shape) if name in part else "none" for part in (theirs, own)
        )
        if found != expected:
            raise ConfigError(
                f"init: {bundle.path} does not fit the configured model: of tensor {name} it has "
                f"shape {found}, expected {expected}; train with the sizes, views and inputs that "
                "it was trained with, or begin anew (init=null)"
            )


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a distribution"
    return found


def write_bundle(
    path: Path,
    *,
    manifest: Mapping[str, Any],
    encoder: EncoderConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Mapping[str, Any],
    calibration: Calibration,
    metrics: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]],
    model_card: str,
) -> None:
    """Write a bundle whole or not at all: into a temporary folder beside `path`, then renamed.

    Args:
        manifest: domain, task, created, fingerprint, label_intervals, config, training (plain
            types).
    """
    temporary = path.with_name(path.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    described = {
        "format": FORMAT,
        **manifest,
        "encoder": encoder.to_dict(),
        "versions": library_versions(),
    }
    (temporary / "bundle.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(contiguous, str(temporary / "model.safetensors"))
    _write_json(temporary / "tokenizer.json", dict(tokenizer))
    _write_json(temporary / "calibration.json", calibration.to_dict())
    _write_json(temporary / "metrics.json", list(metrics))
    _write_json(temporary / "reference.json", list(reference))
    (temporary / "MODEL_CARD.md").write_text(model_card)
    sums = "".join(f"{sha256(temporary / name)}  {name}\n" for name in FILES)
    (temporary / "SHA256SUMS").write_text(sums)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def load_bundle(path: Path) -> Bundle:
    """Verify and read a bundle.

    Raises:
        ConfigError: not a bundle, a file missing or changed, or written in an unknown format.
    """
    path = Path(path)
    # Another format may have other files: that is the first thing to tell.
    if (path / "bundle.yaml").is_file():
        _check_format(path, yaml.safe_load((path / "bundle.yaml").read_text()))
    verify_bundle(path)
    manifest = yaml.safe_load((path / "bundle.yaml").read_text())
    _check_manifest(path, manifest)
    return Bundle(
        path=path,
        domain=manifest["domain"],
        task=manifest["task"],
        created=manifest["created"],
        fingerprint=manifest["fingerprint"],
        label_intervals=manifest["label_intervals"],
        config=manifest["config"],
        encoder=EncoderConfig.from_dict(manifest["encoder"]),
        tokenizer=json.loads((path / "tokenizer.json").read_text()),
        calibration=Calibration.from_dict(json.loads((path / "calibration.json").read_text())),
        metrics=json.loads((path / "metrics.json").read_text()),
        reference=json.loads((path / "reference.json").read_text()),
        version=bundle_version(path),
        training=manifest.get("training", {}),
    )


def _check_format(path: Path, manifest: Any) -> None:
    where = path / "bundle.yaml"
    if not isinstance(manifest, dict):
        raise ConfigError(f"{where}: found no mapping; expected the keys {', '.join(_REQUIRED)}")
    if manifest.get("format") != FORMAT:
        raise ConfigError(
            f"{where}: format {manifest.get('format')!r}, this version reads format {FORMAT}; "
            "use the version of longstrand that wrote it, or retrain"
        )


def _check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    where = path / "bundle.yaml"
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise ConfigError(
                f"{where}: key {key!r} is {manifest.get(key)!r}, expected a {kind.__name__}"
            )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
