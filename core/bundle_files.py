"""The files of a bundle and their sums. Reads no weights and imports no torch, so that a registry
can look after bundles without either."""

from __future__ import annotations

from pathlib import Path

from core.digest import sha256
from core.errors import ConfigError

FILES = (
    "bundle.yaml",
    "model.safetensors",
    "tokenizer.json",
    "calibration.json",
    "metrics.json",
    "reference.json",
    "MODEL_CARD.md",
)


def bundle_version(path: Path) -> str:
    """Head of the SHA-256 of SHA256SUMS: it changes whenever any byte of the bundle does."""
    return sha256(path / "SHA256SUMS")[:12]


def verify_bundle(path: Path) -> None:
    """Compare every file with SHA256SUMS; extra files are refused as well.

    Raises:
        ConfigError: not a bundle, or a file missing, unknown or changed.
    """
    sums = path / "SHA256SUMS"
    if not sums.is_file():
        raise ConfigError(
            f"{path}: not a bundle, it has no SHA256SUMS; expected a folder that "
            "pipelines.train wrote, such as runs/<domain>/latest/bundle"
        )
    lines = [line.split("  ", 1) for line in sums.read_text().splitlines() if "  " in line]
    listed = {name: digest for digest, name in lines}
    present = {f.name for f in path.iterdir()} - {"SHA256SUMS"}
    if set(listed) != set(FILES) or present != set(FILES):
        wrong = sorted((set(FILES) ^ present) | (set(FILES) ^ set(listed)))
        raise ConfigError(
            f"{path}: missing or unknown files in the bundle: {', '.join(wrong)}; "
            "copy the whole folder again from where it was trained"
        )
    for name, expected in listed.items():
        found = sha256(path / name)
        if found != expected:
            raise ConfigError(
                f"{path / name}: SHA-256 {found[:12]}..., SHA256SUMS says {expected[:12]}...: "
                "the file changed after the bundle was written; copy it again or retrain"
            )
