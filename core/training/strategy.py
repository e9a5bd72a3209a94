"""How the processes of a training share its model.

`ddp`: each holds all of it and gradients are averaged (Li et al. 2020, arXiv:2006.15704).
`fsdp`: each holds a part of weights, gradients and optimiser state, and gathers the weights of a
layer for as long as it computes (Zhao et al. 2023, arXiv:2304.11277).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from core.training import launch

STRATEGIES = ("single", "ddp", "fsdp")


def lightning_strategy(name: str) -> Any:
    """What `pl.Trainer(strategy=...)` takes."""
    if name == "ddp":
        from pytorch_lightning.strategies import DDPStrategy

        return DDPStrategy()
    if name == "fsdp":
        from pytorch_lightning.strategies import ModelParallelStrategy

        return ModelParallelStrategy(
            data_parallel_size=launch.count(),
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
        )
    return "auto"


def shard(module: nn.Module, mesh: Any) -> None:
    """Spread the parameters of `module` over the processes of `mesh`, layer by layer.

    A layer is an element of a ModuleList that is called as a whole; what lies outside layers is
    gathered once a step, around `module.loss`.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for layer in _layers(module):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "loss")


def whole_weights(module: nn.Module) -> dict[str, Any]:
    """The state dict of a sharded module, put together in every process."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True))


def whole_tensor(tensor: Tensor) -> Tensor:
    """The same tensor, put together in every process where it was sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(model: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` where `model` is: its device, its part of a sharded one."""
    if isinstance(tensor, DTensor) or not isinstance(model, DTensor):
        return tensor.to(model.device)
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)


def _layers(module: nn.Module) -> list[nn.Module]:
    lists = (m for m in module.modules() if isinstance(m, nn.ModuleList))
    return [m for group in lists for m in group if "forward" in _methods(m)]


def _methods(module: nn.Module) -> set[str]:
    own = (c for c in type(module).__mro__ if c is not nn.Module)
    return {name for c in own for name in vars(c)}
