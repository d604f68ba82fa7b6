"""`shard_parameters`: fully sharded data parallelism (FSDP2) of a module and its blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

_STACKS = ("blocks", "layers")
"""Names of the lists of layers in networks."""


def shard_parameters(root: nn.Module, mesh: DeviceMesh, methods: Sequence[str]) -> None:
    """Shard the parameters of a module over a mesh, in place.

    Each layer of a stack is a group, whose parameters are gathered while the layer runs. All others
    are in the group of the root, such as an embedding that shares its weight with the head; they
    are gathered while one of the methods runs. Scalars, such as CLIP's temperature, stay whole on
    all ranks, and their gradients are averaged in the backward pass.

    Args:
        root: the module.
        mesh: of one dimension, the ranks that train on different batches.
        methods: names of the root's methods that compute with its parameters.

    Source: Zhao et al., 2023, "PyTorch FSDP".
    """
    scalars = {parameter for parameter in root.parameters() if not parameter.ndim}
    for scalar in scalars:
        scalar.register_hook(partial(_mean_over_ranks, mesh))
    for layer in list(stacked_layers(root)):
        fully_shard(layer, mesh=mesh, ignored_params=scalars)
    fully_shard(root, mesh=mesh, ignored_params=scalars)
    for method in methods:
        register_fsdp_forward_method(root, method)


def _mean_over_ranks(mesh: DeviceMesh, gradient: Tensor) -> Tensor:
    """Return the mean of a gradient over the ranks of a mesh, as FSDP2 computes it for shards."""
    total = gradient.clone()
    dist.all_reduce(total, group=mesh.get_group())
    return total / mesh.size()


def stacked_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers with parameters in all stacks of a module, the outermost stacks only."""
    for name, child in module.named_children():
        if name in _STACKS and isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from stacked_layers(child)


def full_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without shards; all ranks must call this."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in state.items()
    }


def scale_gradients(parameters: Iterable[nn.Parameter], factor: Tensor) -> None:
    """Multiply the gradients of parameters by a factor [], in place; sharded ones, too."""
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = parameter.grad
            local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            local.mul_(factor.to(local))
