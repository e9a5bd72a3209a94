"""Features that a fraud team makes by hand: the Handbook's 15, and 34 more of a careful engineer.

The 15 are those of the Fraud Detection Handbook (Le Borgne et al. 2022, chapter 3). The others put
an amount against its card's past, follow what is known of a terminal's labels, and say how much is
not known yet. All look back only, and see a label once it is `delay` old.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from domains.finance.labelled import TransactionSource
from domains.finance.past import Past
from domains.finance.stream import DAY, KeyOrder

HANDBOOK = 15
EXTENDED = 49
HOUR = DAY // 24


@dataclass(frozen=True)
class Events:
    """n transactions in time order.

    Args:
        time: [n] microseconds since 1970 UTC.
        amount: [n] float64.
        fraud: [n] float64, 1 for a fraud; a row without a label counts as none.
        card, terminal: [n] int64, equal for equal entities.
    """

    time: np.ndarray
    amount: np.ndarray
    fraud: np.ndarray
    card: np.ndarray
    terminal: np.ndarray

    @staticmethod
    def of(source: TransactionSource) -> Events:
        """Of a source whose entities are `customer` and `terminal`."""
        events = source.events
        return Events(
            time=events["time"].dt.epoch("us").to_numpy(),
            amount=events[f"number:{source.schema.amount}"].to_numpy(),
            fraud=(events["label"] == 1).fill_null(False).to_numpy().astype(np.float64),
            card=_codes(events["entity:customer"]),
            terminal=_codes(events["entity:terminal"]),
        )


def handbook_features(events: Events, delay: int) -> dict[str, np.ndarray]:
    """15 columns [n]: amount, weekend, night; of the card the count and mean amount, of the
    terminal the count and fraud rate of rows whose labels are known, over 1, 7 and 30 days."""
    # 1970-01-01 was a Thursday.
    weekday, hour = (events.time // DAY + 3) % 7, events.time // HOUR % 24
    found = {"amount": events.amount, "weekend": weekday >= 5, "night": hour <= 6}
    card, terminal = Past(events.card, events.time), Past(events.terminal, events.time)
    known = terminal.known(delay)
    for days in (1, 7, 30):
        count, mean = card.count_and_mean(events.amount, card.known(days * DAY), card.here + 1)
        found |= {f"card_count_{days}d": count, f"card_amount_{days}d": mean}
        begin = terminal.known(delay + days * DAY)
        count, rate = terminal.count_and_mean(events.fraud, begin, known)
        found |= {f"terminal_count_{days}d": count, f"terminal_risk_{days}d": rate}
    return found


def extended_features(events: Events, delay: int) -> dict[str, np.ndarray]:
    """34 columns [n] beside the Handbook's; NaN where there is no past to speak of."""
    card, terminal = Past(events.card, events.time), Past(events.terminal, events.time)
    pair = KeyOrder.of(events.card * (events.terminal.max(initial=0) + 1) + events.terminal)
    return {
        **amount_against_past(card, events.amount),
        **_last_payments(card, events),
        **_known_frauds_of_card(card, events.fraud, delay),
        **_known_frauds_of_terminal(terminal, events.fraud, delay),
        **_last_known_run(terminal, events.fraud, delay),
        "terminal_unlabelled": terminal.unsorted(terminal.here - terminal.known(delay)),
        "pair_seen": (pair.place - pair.first).astype(np.float64),
        "hour": events.time % DAY / HOUR,
    }


def table(columns: dict[str, np.ndarray]) -> np.ndarray:
    """[n, d] float32."""
    return np.column_stack([column.astype(np.float32) for column in columns.values()])


def amount_against_past(card: Past, amount: np.ndarray) -> dict[str, np.ndarray]:
    """Over 7 and 30 days and the whole past, the current row not among them."""
    found: dict[str, np.ndarray] = {}
    for name, low in {
        "7d": card.known(7 * DAY),
        "30d": card.known(30 * DAY),
        "all": card.first,
    }.items():
        count, mean = card.count_and_mean(amount, low, card.here)
        square = card.count_and_mean(amount**2, low, card.here)[1]
        # Of one amount the difference is rounding.
        spread = np.sqrt(np.where(count > 1, np.maximum(square - mean**2, 0), 0))
        mean = np.where(count > 0, mean, np.nan)
        found[f"amount_ratio_{name}"] = amount / mean
        # One unit of money more, as a single past amount has no spread.
        found[f"amount_z_{name}"] = (amount - mean) / (spread + 1)
        found[f"card_before_{name}"] = count
    return found


def _last_payments(card: Past, events: Events) -> dict[str, np.ndarray]:
    """Amounts of the card's last three rows, and microseconds since each."""
    found: dict[str, np.ndarray] = {}
    amount = card.sorted(events.amount)
    for back in (1, 2, 3):
        place = card.here - back
        there, place = place >= card.first, np.maximum(place, 0)
        found[f"amount_before_{back}"] = card.unsorted(np.where(there, amount[place], np.nan))
        gap = np.where(there, card.time - card.time[place], np.nan)
        found[f"gap_{back}"] = card.unsorted(gap)
    return found


def _known_frauds_of_card(card: Past, fraud: np.ndarray, delay: int) -> dict[str, np.ndarray]:
    begins = {f"{days}d": card.known(delay + days * DAY) for days in (7, 14)} | {"all": card.first}
    known = card.known(delay)
    return {f"card_frauds_{name}": card.sums(fraud, begin, known) for name, begin in begins.items()}


def _known_frauds_of_terminal(
    terminal: Past, fraud: np.ndarray, delay: int
) -> dict[str, np.ndarray]:
    """Counts, and rates that are -1 where no label is known."""
    found: dict[str, np.ndarray] = {}
    known = terminal.known(delay)
    for days in (3, 14, 21, 28):
        begin = terminal.known(delay + days * DAY)
        count, rate = terminal.count_and_mean(fraud, begin, known)
        found[f"terminal_frauds_{days}d"] = terminal.sums(fraud, begin, known)
        found[f"terminal_rate_{days}d"] = np.where(count > 0, rate, -1)
    return found


def _last_known_run(terminal: Past, fraud: np.ndarray, delay: int) -> dict[str, np.ndarray]:
    """Of the unbroken run of frauds at the terminal that holds its last known one: microseconds
    since its end and its start, its length, and whether nothing known has ended it."""
    label, place, known = terminal.sorted(fraud), terminal.here, terminal.known(delay)
    newest = np.maximum(known - 1, 0)
    some = known > terminal.first
    last = np.maximum.accumulate(np.where(label == 1, place, -1))[newest]
    found = some & (last >= terminal.first)
    begins = np.ones(len(place), dtype=bool)
    begins[1:] = (label[1:] != label[:-1]) | (terminal.first[1:] != terminal.first[:-1])
    last = np.maximum(last, 0)
    start = np.maximum.accumulate(np.where(begins, place, 0))[last]
    columns = {
        "since_known_fraud": np.where(found, terminal.time - terminal.time[last], np.nan),
        "since_run_start": np.where(found, terminal.time - terminal.time[start], np.nan),
        "run_length": np.where(found, last - start + 1, 0),
        "last_known_label": np.where(some, label[newest], -1),
        "run_open": found & (label[newest] == 1),
    }
    return {name: terminal.unsorted(column) for name, column in columns.items()}


def _codes(entity: pl.Series) -> np.ndarray:
    return entity.rank("dense").cast(pl.Int64).to_numpy()
