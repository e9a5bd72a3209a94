"""Sparse attention: a pattern says which pairs, a plan says which blocks, a backend computes."""

from core.attention.attend import BACKENDS, attend, attend_sources
from core.attention.blocks import Blocks, Blockwise, Random
from core.attention.heads import HeadGroups, HeadPlan
from core.attention.keyed import KeyedIndex, keyed_attend, keyed_index
from core.attention.learned import Learned, TopK, chosen_blocks
from core.attention.patterns import Causal, Dense, Pattern, Window, pattern_from_dict
from core.attention.plan import Plan
from core.attention.published import bigbird, logsparse, longformer, sparse_transformer
from core.attention.selection import select_blocks
from core.attention.steps import Dilated, Fixed, LogSparse, Strided
from core.attention.stream import StreamState
from core.attention.stream_keyed import KeyedStreamState
from core.attention.tokens import Global

__all__ = [
    "BACKENDS",
    "Blocks",
    "Blockwise",
    "Causal",
    "Dense",
    "Dilated",
    "Fixed",
    "Global",
    "HeadGroups",
    "HeadPlan",
    "KeyedIndex",
    "KeyedStreamState",
    "Learned",
    "LogSparse",
    "Pattern",
    "Plan",
    "Random",
    "StreamState",
    "Strided",
    "TopK",
    "Window",
    "attend",
    "attend_sources",
    "bigbird",
    "chosen_blocks",
    "keyed_attend",
    "keyed_index",
    "logsparse",
    "longformer",
    "pattern_from_dict",
    "select_blocks",
    "sparse_transformer",
]
