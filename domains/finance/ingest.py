"""From files to a stream on disk, a batch at a time."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from core.errors import DataContractError
from domains.finance.files import TransactionFiles
from domains.finance.store import StreamWriter
from domains.finance.stream import CONTEXT_ROW
from domains.finance.tokens import FinanceTokenizer

FACTS, SET_ASIDE = "facts.json", "set_aside.parquet"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER, FOREVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Facts:
    """What was read.

    Args:
        rows: of each file of the input, good and bad.
        context: events of history, which begin the stream.
        last: time of the input's last event, None where there is none.
        reasons: rows of the input that were set aside, by the first column that was bad.
        set_aside: Parquet file with a row for every bad cell, history's too.
    """

    rows: list[int]
    context: int
    last: str | None
    reasons: dict[str, int]
    set_aside: Path


def read_facts(folder: Path) -> Facts:
    """Of a folder that `ingest` filled."""
    rows, context, last, reasons = json.loads((folder / FACTS).read_text())
    return Facts(rows, context, last, reasons, folder / SET_ASIDE)


def ingest(
    source: TransactionFiles, tokenizer: FinanceTokenizer, entities: list[list[str]], folder: Path
) -> None:
    """Write good rows as a stream into `folder`, the cells of bad ones and the facts beside it.

    Raises:
        DataContractError: a file breaks the contract as a whole, or the history does not end
            before the input begins.
    """
    # Hashes of entities only ever meet each other here, so that their key may be thrown away.
    writer, secret = StreamWriter(folder), secrets.token_bytes(32)
    context, history_ends, aside = 0, NEVER, list[pl.DataFrame]()
    # Ids are unique within each file of history, and over all of the input.
    for batch in (batch for table in source.history for batch in source.judged([table])):
        stream = tokenizer.encode(batch.events, entities, secret)
        writer.append(replace(stream, row=np.full_like(stream.row, CONTEXT_ROW)))
        history_ends = max(history_ends, int(stream.time.max(initial=NEVER)))
        context += len(stream)
        aside.append(batch.set_aside)
    rows, reasons, begins, ends = Counter[str](), Counter[str](), FOREVER, NEVER
    for batch in source.judged(source.tables):
        stream = tokenizer.encode(batch.events, entities, secret)
        before = sum(rows.values()) - rows[batch.table.name]
        writer.append(replace(stream, row=stream.row + before))
        begins = min(begins, int(stream.time.min(initial=FOREVER)))
        ends = max(ends, int(stream.time.max(initial=NEVER)))
        rows[batch.table.name] += batch.rows
        reasons.update(_reasons(batch.set_aside))
        aside.append(batch.set_aside)
    if history_ends > begins:
        raise DataContractError(
            "history: found events later than the first row to score, expected history to end "
            "before it; cut the history file at the start of the input"
        )
    writer.finish()
    pl.concat(aside).write_parquet(folder / SET_ASIDE)
    last = (EPOCH + timedelta(microseconds=ends)).isoformat() if ends > NEVER else None
    counts = [rows[table.name] for table in source.tables]
    (folder / FACTS).write_text(json.dumps([counts, context, last, dict(reasons)]))


def _reasons(set_aside: pl.DataFrame) -> dict[str, int]:
    """Rows by the first column for which they were set aside."""
    first = set_aside.unique("row", keep="first", maintain_order=True)
    counts = first.group_by("column", maintain_order=True).len()
    return {f"bad {column}": count for column, count in counts.iter_rows()}
