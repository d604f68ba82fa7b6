"""`shard_parameters`: fully sharded data parallelism (FSDP2) of a module and its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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
    are gathered while one of the methods runs.

    Args:
        root: the module.
        mesh: of one dimension, the ranks that train on different batches.
        methods: names of the root's methods that compute with its parameters.

    Raises:
        ValueError: when a parameter is a scalar, which cannot be sharded.

    Source: Zhao et al., 2023, "PyTorch FSDP".
    """
    for name, parameter in root.named_parameters():
        if not parameter.ndim:
            raise ValueError(
                f"strategy: got ModelParallelStrategy and the scalar parameter {name}, expected "
                "parameters of one or more dimensions, which FSDP2 can shard; use the strategy ddp"
            )
    for layer in list(stacked_layers(root)):
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(root, method)


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
