"""Embedded data: customers who pay at terminals near home, and three ways to be defrauded.

The kinds of fraud follow the idea of the Fraud Detection Handbook's simulator (Le Borgne et al.
2022, chapter 3); code and numbers are our own. Odd amounts are seen in one transaction,
compromised cards in the card's own history, compromised terminals only in the terminal's labels.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from domains.finance.config import FinanceData
from domains.finance.schema import READY

START = datetime(2024, 1, 1, tzinfo=UTC)
RADIUS_KM = 12.0
SIDE_KM = 100.0
ODD_AMOUNT = 260.0
TERMINAL_DAYS = 28
CARD_DAYS = 14
CARD_SHARE = 0.35
CARD_FACTOR = 5.0
KINDS = ("amount", "terminal", "card")
CHANNELS = ("chip", "contactless", "online")
README = """Simulated card transactions, seed {seed}: {rows} rows, {frauds} frauds, {days} days.

transactions.parquet and transactions.csv hold the same rows; schema.yaml says what the columns
are. Fraud: amounts far above anything ordinary; terminals compromised for {terminal_days} days;
cards compromised for {card_days} days, with amounts {factor:g} times the usual on a part of their
payments. Nobody in it exists.
"""


@dataclass(frozen=True)
class Customers:
    """[c] each: places in km, mean amount, payments a day, share of each channel [c, 3]."""

    place: np.ndarray
    amount: np.ndarray
    rate: np.ndarray
    channels: np.ndarray


def simulate_transactions(data: FinanceData) -> pl.DataFrame:
    """Time-ordered transactions; a pure function of seed and sizes.

    Returns:
        columns transaction_id, time, card_id, terminal_id, amount, channel, distance_km, fraud,
        fraud_kind (amount, terminal or card; null where there is none).
    """
    rng = np.random.default_rng(data.seed)
    terminals = rng.uniform(0, SIDE_KM, (data.terminals, 2))
    customers = Customers(
        place=rng.uniform(0, SIDE_KM, (data.customers, 2)),
        amount=rng.uniform(5, 100, data.customers),
        rate=rng.uniform(0.2, 4, data.customers),
        channels=rng.dirichlet((4, 4, 2), data.customers),
    )
    parts = [_payments(rng, customers, c, terminals, data.days) for c in range(data.customers)]
    frame = pl.concat(parts).sort("second", "customer", "terminal")
    kind, amount = _defraud(rng, frame, data)
    return frame.select(
        pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(8).alias("transaction_id"),
        (pl.lit(START) + pl.duration(seconds="second")).alias("time"),
        pl.format("C{}", pl.col("customer").cast(pl.String).str.zfill(5)).alias("card_id"),
        pl.format("T{}", pl.col("terminal").cast(pl.String).str.zfill(5)).alias("terminal_id"),
        pl.Series("amount", np.round(amount, 2)),
        "channel",
        pl.col("distance_km").round(1),
        pl.Series("fraud", (kind >= 0).astype(np.int8)),
        pl.Series("fraud_kind", [KINDS[k] if k >= 0 else None for k in kind], dtype=pl.String),
    )


def _payments(
    rng: np.random.Generator, customers: Customers, c: int, terminals: np.ndarray, days: int
) -> pl.DataFrame:
    """All of one customer's honest payments."""
    distance = np.linalg.norm(terminals - customers.place[c], axis=1)
    near = np.flatnonzero(distance <= RADIUS_KM)
    if not len(near):
        near = np.array([distance.argmin()])
    count = rng.poisson(customers.rate[c] * days)
    day = rng.integers(days, size=count)
    # Mostly around midday, some at night.
    clock = np.clip(rng.normal(43_200, 16_000, count), 0, 86_399)
    terminal = rng.choice(near, count)
    mean = customers.amount[c]
    amount = rng.normal(mean, mean / 2, count)
    amount = np.where(amount > 0.5, amount, rng.uniform(0.5, 2 * mean, count))
    channel = rng.choice(len(CHANNELS), count, p=customers.channels[c])
    return pl.DataFrame(
        {
            "second": day * 86_400 + clock.astype(np.int64),
            "customer": np.full(count, c),
            "terminal": terminal,
            "amount": amount,
            "channel": np.array(CHANNELS)[channel],
            "distance_km": distance[terminal],
        },
        schema_overrides={"channel": pl.String},
    )


def _defraud(
    rng: np.random.Generator, frame: pl.DataFrame, data: FinanceData
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of fraud, -1 for none, and the amounts that follow from them."""
    amount = frame["amount"].to_numpy().copy()
    day = frame["second"].to_numpy() // 86_400
    customer, terminal = frame["customer"].to_numpy(), frame["terminal"].to_numpy()
    odd = rng.random(len(frame)) < 0.0008
    amount[odd] = ODD_AMOUNT + rng.exponential(120, odd.sum())
    kind = np.where(odd, 0, -1)
    # Numbers that begin on an average day, kept in proportion to the simulated town.
    terminal_rate, card_rate = data.terminals / 1600, data.customers / 500
    for start in range(data.days):
        for chosen in rng.integers(data.terminals, size=rng.poisson(terminal_rate)):
            hit = (terminal == chosen) & _during(day, start, TERMINAL_DAYS)
            kind[hit & (kind < 0)] = 1
        for chosen in rng.integers(data.customers, size=rng.poisson(card_rate)):
            hit = (customer == chosen) & _during(day, start, CARD_DAYS)
            hit &= (rng.random(len(frame)) < CARD_SHARE) & (kind < 0)
            amount[hit] *= CARD_FACTOR
            kind[hit] = 2
    return kind, amount


def _during(day: np.ndarray, start: int, length: int) -> np.ndarray:
    return (day >= start) & (day < start + length)


def write_simulation(data: FinanceData, out: Path) -> None:
    """transactions.parquet, transactions.csv, schema.yaml and README.txt into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    frame = simulate_transactions(data)
    frame.write_parquet(out / "transactions.parquet.partial")
    os.replace(out / "transactions.parquet.partial", out / "transactions.parquet")
    text = frame.with_columns(pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    text.write_csv(out / "transactions.csv.partial")
    os.replace(out / "transactions.csv.partial", out / "transactions.csv")
    shutil.copyfile(READY / "simulated.yaml", out / "schema.yaml")
    told = README.format(
        seed=data.seed,
        rows=len(frame),
        frauds=int(frame["fraud"].sum()),
        days=data.days,
        terminal_days=TERMINAL_DAYS,
        card_days=CARD_DAYS,
        factor=CARD_FACTOR,
    )
    (out / "README.txt").write_text(told)
