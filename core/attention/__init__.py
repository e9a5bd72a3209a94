"""Sparse attention: a pattern says which pairs, a plan says which blocks, a backend computes."""

from core.attention.attend import BACKENDS, attend, attend_sources
from core.attention.keyed import KeyedIndex, keyed_attend, keyed_index
from core.attention.patterns import (
    Causal,
    Dense,
    Global,
    Pattern,
    Random,
    Window,
    bigbird,
    longformer,
    pattern_from_dict,
)
from core.attention.plan import Plan

__all__ = [
    "BACKENDS",
    "Causal",
    "Dense",
    "Global",
    "KeyedIndex",
    "Pattern",
    "Plan",
    "Random",
    "Window",
    "attend",
    "attend_sources",
    "bigbird",
    "keyed_attend",
    "keyed_index",
    "longformer",
    "pattern_from_dict",
]
