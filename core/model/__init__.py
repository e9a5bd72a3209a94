"""The encoder and its parts."""

from core.model.encoder import EncoderConfig, SparseEncoder
from core.model.rotary import rotate
from core.model.sparse_attention import SparseAttention

__all__ = ["EncoderConfig", "SparseAttention", "SparseEncoder", "rotate"]
