"""The encoder and its parts."""

from core.model.encoder import EncoderConfig, SparseEncoder
from core.model.rotary import rotate
from core.model.sparse_attention import SparseAttention
from core.model.stream import EncoderStream

__all__ = ["EncoderConfig", "EncoderStream", "SparseAttention", "SparseEncoder", "rotate"]
