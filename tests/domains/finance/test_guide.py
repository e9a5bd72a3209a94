"""The guide's commands, from an own CSV to a scored file and a back-test, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl

from domains.finance.config import FinanceData
from domains.finance.simulate import simulate_transactions
from tests.domains.genomics.conftest import ROOT
from tests.domains.genomics.test_guide import RUN
from tests.test_docs import shell_blocks

SMALL = "model.dim=12 model.layers=1 model.heads=3 domain.batch_size=32 domain.memory=per_head"
TRAINED = [*SMALL.split(), "trainer.steps=5", "logger=none"]
GUIDE = ROOT / "docs" / "finance.md"


def _section() -> str:
    text = GUIDE.read_text()
    start = text.index("## Your own data")
    return text[start : text.index("\n## ", start + 1)]


def _files(folder: Path) -> None:
    """my.yaml as the guide has it, transactions.csv to 2024-10-01 with a few bad rows, and new.csv
    of the week after, without labels."""
    schema = re.search(r"^```yaml\n(.*?)^```", _section(), re.M | re.S)
    assert schema is not None
    (folder / "my.yaml").write_text(schema.group(1))
    frame = simulate_transactions(FinanceData(customers=60, terminals=90, days=120, seed=5))
    own = frame.select(
        "transaction_id",
        pl.col("time").dt.offset_by("161d").dt.strftime("%Y-%m-%d %H:%M:%S").alias("booked_at"),
        pl.col("amount").cast(pl.String),
        "card_id",
        pl.col("terminal_id").alias("merchant_id"),
        pl.col("channel").alias("mcc"),
        pl.lit("chip").alias("entry_mode"),
        pl.col("distance_km").alias("balance"),
        pl.col("fraud").alias("is_fraud"),
        pl.col("fraud_kind").alias("fraud_type"),
    )
    bad = pl.int_range(pl.len()).is_in([5, 700])
    own = own.with_columns(amount=pl.when(bad).then(pl.lit("12,5O")).otherwise("amount"))
    past = pl.col("booked_at") < "2024-10-01"
    own.filter(past).write_csv(folder / "transactions.csv")
    own.filter(~past).drop("is_fraud", "fraud_type").write_csv(folder / "new.csv")


def _commands() -> list[list[str]]:
    blocks = "".join(shell_blocks(_section())).replace("\\\n", " ")
    found = re.findall(r"^python -m (\S+) (.*)$", blocks, re.M)
    return [[module, *shlex.split(arguments)] for module, arguments in found]


def test_the_guide_leads_from_an_own_csv_to_scores_and_a_back_test(tmp_path: Path) -> None:
    _files(tmp_path)
    commands = _commands()
    assert [c[0].split(".")[1] for c in commands] == ["train", "score", "evaluate"]
    commands[0] += TRAINED
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    trained, scored, walked = (json.loads(line) for line in done.stdout.splitlines())
    assert trained["set_aside"] == walked["set_aside"] == 2
    assert scored["scored"] == scored["rows"] == len(pl.read_csv(tmp_path / "new.csv")) > 500
    out = pl.read_csv(tmp_path / "scored.csv")
    assert out["fraud_score"].is_between(0, 1).all()
    assert {"alert", "reason_1", "reason_3"} <= set(out.columns)
    assert walked["trained"] == 1
    assert (tmp_path / walked["run"] / "report.html").is_file()
