"""The kernels of torch that the CPU backend stands on, which torch calls private."""

from __future__ import annotations

import torch

from core.attention.backends import kernels

TO_DO = (
    "torch {version} changed {name}. Read its new schema, adapt the call in "
    "core/attention/backends/kernels.py, run tests/core/attention, then update the schema here; "
    "where the operator is gone, compute a part as softmax(q k^T + mask) v with its log-sum-exp"
)
FLASH = (
    "aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, "
    "float dropout_p=0., bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> "
    "(Tensor output, Tensor logsumexp)"
)
FLASH_BACKWARD = (
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward(Tensor grad_out, Tensor query, "
    "Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, "
    "Tensor? attn_mask=None, float? scale=None) -> "
    "(Tensor grad_query, Tensor grad_key, Tensor grad_value)"
)


def test_the_flash_kernels_have_the_schema_that_the_backend_was_written_for() -> None:
    for op, expected in ((kernels._flash, FLASH), (kernels._flash_backward, FLASH_BACKWARD)):
        name = expected.split("(")[0]
        message = TO_DO.format(version=torch.__version__, name=name)
        assert str(op._schema).replace("0.0", "0.") == expected, message


def test_a_row_that_a_mask_empties_is_reported_as_the_backend_expects() -> None:
    """The backend gives such rows output 0 and log-sum-exp -inf itself."""
    q = torch.randn(1, 1, 2, 4)
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0, :] = -torch.inf
    out, lse = kernels._flash(q, q, q, attn_mask=mask)
    assert bool(out[..., 1, :].isfinite().all()) and bool(lse[..., 1].isfinite())
    assert not bool(lse[..., 0] == -torch.inf)
