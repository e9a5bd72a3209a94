"""Lines of text that may be compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from core.errors import DataContractError


def text_lines(path: Path, kind: str) -> Iterator[str]:
    """Lines of a file that is compressed where its name ends in .gz or .bgz.

    Args:
        kind: what the file should be, for a message.

    Raises:
        DataContractError: not UTF-8 text, or compressed data that is none or damaged.
    """
    packed = path.suffix in (".gz", ".bgz")
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise DataContractError(
            f"{path}: cannot be read as {kind}: it is no UTF-8 text ({error.reason}); where it is "
            "compressed its name must end in .gz"
        ) from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataContractError(
            f"{path}: cannot be read as {kind} ({error}); a name ending in {path.suffix} asks for "
            + ("whole gzip data" if packed else "plain text")
        ) from error
