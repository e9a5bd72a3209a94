"""Which files of variants a folder or a glob holds: one a chromosome, or one a sample."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.errors import ConfigError
from core.globs import root_and_named

VCF = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
_BESIDE = (".tbi", ".csi", ".md5")
"""Of files that lie beside a VCF and tell of it."""


def variant_files(path: Path) -> Mapping[str, Path] | None:
    """Files of variants by the names of their outputs: of a folder, and the folders in it, those
    that are called VCF or BCF; of a glob all but indexes and checksums, tables too, and of a folder
    that it names as before. A name counts from the folder in which names begin to differ; what was
    BCF becomes .vcf.gz. None for a file of that name.

    Raises:
        ConfigError: there is none, or two outputs would have one name.
    """
    if path.is_file() or not (path.is_dir() or glob.has_magic(str(path))):
        return None
    root, named = root_and_named(path)
    files = sorted({file.relative_to(root) for one in named for file in _files(one)})
    shown = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    if not shown:
        raise ConfigError(f"{path}: found no variants, expected files in {', '.join(VCF)}")
    outputs = {_output(file): root / file for file in shown}
    if len(outputs) < len(shown):
        twice = next(file for file in shown if outputs[_output(file)] != root / file)
        raise ConfigError(
            f"{path}: the scores of {twice} and of another file would both be {_output(twice)}; "
            "name one of them"
        )
    return outputs


def _files(named: Path) -> Iterable[Path]:
    if named.is_dir():
        return (p for p in named.rglob("*") if p.name.lower().endswith(VCF) and p.is_file())
    return [] if named.name.lower().endswith(_BESIDE) else [named]


def _output(file: Path) -> str:
    return str(file.with_suffix(".vcf.gz") if file.suffix.lower() == ".bcf" else file)
