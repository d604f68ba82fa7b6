"""Fields of a batch that patterns and models read: sizes of samples, device, required tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Layout:
    """The sizes of a batch's samples without its data; patterns accept it in place of a batch."""

    lengths: tuple[int, ...]
    device: torch.device = field(default=torch.device("cpu"))
    shapes: tuple[tuple[int, ...], ...] | None = None

    @property
    def num_nodes(self) -> int:
        """The number of nodes of all samples."""
        return sum(self.lengths)


def lengths(batch: BatchLike | Layout) -> tuple[int, ...]:
    """Return the number of nodes of each sample, B ints.

    Read from `batch.lengths`, else `batch.ptr`, else the vector `batch.batch`; a batch without any
    of them is one sample. A `ptr` that does not end at the number of nodes (PyG's `subgraph` leaves
    the old one) is ignored.

    Raises:
        ValueError: when the nodes of a sample are not consecutive, or `ptr` is out of date and
            there is no `batch.batch`.
    """
    sizes, order = sample_layout(batch)
    if order is not None:
        raise ValueError(
            "batch.batch: got samples whose nodes are interleaved, expected the nodes of each "
            "sample in one run; reorder the nodes by batch.batch.argsort(stable=True)"
        )
    return sizes


def sample_layout(batch: BatchLike | Layout) -> tuple[tuple[int, ...], Tensor | None]:
    """Return the sizes of the samples and the nodes ordered by sample.

    The order is int64 [N], None if the nodes of each sample are consecutive already.
    """
    sizes = getattr(batch, "lengths", None)
    if sizes is not None:
        # A symbol of torch.export has no number.
        return tuple(n if isinstance(n, torch.SymInt) else int(n) for n in sizes), None  # type: ignore[misc]
    ptr, sample = getattr(batch, "ptr", None), getattr(batch, "batch", None)
    if ptr is not None:
        borders = ptr.tolist()
        num_nodes = batch.num_nodes if sample is None else len(sample)
        if borders[-1] == num_nodes:
            return tuple(b - a for a, b in pairwise(borders)), None
        if sample is None:
            raise ValueError(
                f"batch.ptr: got samples of {borders[-1]} nodes in all, expected "
                f"{num_nodes}; set batch.ptr again after nodes were removed or added"
            )
    if sample is None:
        assert batch.num_nodes is not None
        return (batch.num_nodes,), None
    sizes = torch.bincount(sample, minlength=0 if ptr is None else len(ptr) - 1)
    ascending = bool((sample[1:] >= sample[:-1]).all())
    return tuple(sizes.tolist()), None if ascending else sample.argsort(stable=True)


def device_of(batch: BatchLike | Layout) -> torch.device:
    """Return the device of the batch's tensors; explicit edges are put there."""
    if isinstance(batch, Layout):
        return batch.device
    tensors = (getattr(batch, name, None) for name in ("x", "edge_index", "pos"))
    return next((x.device for x in tensors if isinstance(x, Tensor)), torch.device("cpu"))


def require_field(batch: BatchLike | Layout, name: str, reason: str) -> Any:
    """Return the field `name` of a batch.

    Raises:
        ValueError: when it is absent; the message ends with `reason`.
    """
    value = getattr(batch, name, None)
    if value is None:
        raise ValueError(f"batch.{name}: got None, expected a value; {reason}{_hint(batch)}")
    return value


def require_tensor(batch: BatchLike | Layout, name: str, reason: str) -> Tensor:
    """Return the tensor `name` of a batch.

    Raises:
        ValueError: when it is absent or not a tensor; the message ends with `reason`.
    """
    value = getattr(batch, name, None)
    if not isinstance(value, Tensor):
        raise ValueError(
            f"batch.{name}: got {'None' if value is None else type(value).__name__}, expected a "
            f"tensor; {reason}{_hint(batch)}"
        )
    return value


def _hint(batch: BatchLike | Layout) -> str:
    """What to do with PyG's `HeteroData`, which has its fields by node type."""
    if hasattr(batch, "to_homogeneous"):
        return " (nodes of several types: pass batch.to_homogeneous())"
    return ""
