"""The inputs of an exported program: which fields of a batch it reads, and how they vary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, edge_values
from graphformer.batch_type import Batch, BatchLike
from graphformer.data import SparseFeatures
from graphformer.nn.patches import patchify, unpatchify
from graphformer.patterns import lengths

NODE_FIELDS = (
    "x", "pos", "token_types", "node_type", "laplacian_pe", "random_walk_pe", "in_degree",
    "out_degree",
)  # fmt: skip
"""Fields with a row for each node."""
EDGE_FILL = {"edge_attr": 0.0, "edge_type": -1.0, "edge_weight": 1.0}
"""Fields with a row for each edge, and their values for edges that the data do not have."""


def tensor_inputs(batch: BatchLike, adjacency: Adjacency) -> dict[str, Tensor]:
    """Return the fields of a batch of one sample that programs may read, with those of its edges.

    Args:
        batch: one sample.
        adjacency: of attention; `edge_index` [2, E] are its edges, in whose order the values of
            edges are.

    Raises:
        ValueError: when the batch has several samples, or is of an encoder-decoder.
    """
    if getattr(batch, "source", None) is not None:
        raise ValueError(
            "batch: got the source of an encoder-decoder, expected a single text, image or graph; "
            "export network.encoder and network.decoder on batches of their own"
        )
    sizes = lengths(batch)
    if len(sizes) != 1:
        raise ValueError(f"batch: got {len(sizes)} samples, expected one; export a batch of one")
    found = {}
    for name in NODE_FIELDS:
        value = getattr(batch, name, None)
        if isinstance(value, SparseFeatures):
            value = value.to_dense()
        if isinstance(value, Tensor):
            found[name] = value
    found["edge_index"] = adjacency.edge_index.contiguous()
    for name, fill in EDGE_FILL.items():
        value = getattr(batch, name, None)
        if isinstance(value, Tensor):
            found[name] = edge_values(adjacency, batch.edge_index, value, fill=fill)
    return found


def read_inputs(
    run: Callable[[dict[str, Tensor]], Tensor], inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the inputs that a function needs: without each of the others the output is the same.

    Args:
        run: the function.
        inputs: by name; x and edge_index are always kept.
    """
    expected, kept = run(inputs), dict(inputs)
    for name in inputs.keys() - {"x", "edge_index"}:
        rest = {key: value for key, value in kept.items() if key != name}
        try:
            output = run(rest)
        except (ValueError, RuntimeError):
            continue
        if output.shape == expected.shape and torch.equal(output, expected):
            kept = rest
    return kept


def as_batch(inputs: dict[str, Tensor]) -> Batch:
    """Return inputs as a batch of one sample."""
    return Batch(**inputs, lengths=(inputs["x"].shape[0],))


def as_numbered_batch(inputs: dict[str, Tensor]) -> Batch:
    """Return inputs as a batch of one sample with the positions 0, 1, ..., as of a text."""
    batch = as_batch(inputs)
    batch.pos = torch.arange(inputs["x"].shape[0])
    return batch


def image_maker(
    constants: dict[str, Tensor], shapes: tuple[tuple[int, int], ...] | None, patch_size: int | None
) -> Callable[[dict[str, Tensor]], Batch]:
    """Return what makes the batch of one image, or another sample of fixed size.

    Args:
        constants: all fields but x.
        shapes: rows and columns of the image in patches; None for another sample.
        patch_size: cuts `image` [1, C, height, width] into x [N, F]; with None the input is x.
    """

    def make(inputs: dict[str, Tensor]) -> Batch:
        x = inputs["x"] if patch_size is None else patchify(inputs["image"], patch_size)[0]
        batch = as_batch({**constants, "x": x.reshape(-1, x.shape[-1]) if patch_size else x})
        if shapes is not None:
            batch.shapes = shapes
        return batch

    return make


def as_image(x: Tensor, shape: tuple[int, int], patch_size: int) -> Tensor:
    """Return the image [1, C, height, width] of its patches [N, F]."""
    return unpatchify(x.reshape(1, *shape, -1), patch_size)


def other_sizes(inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Return inputs with other numbers of nodes and edges, to check a program; None if too few.

    With edges these are two copies of a sample as one, else all nodes but the last.
    """
    edges, count = inputs.get("edge_index"), inputs["x"].shape[0]
    if edges is None:
        return {name: value[:-1] for name, value in inputs.items()} if count > 2 else None
    twice = {name: torch.cat([value, value]) for name, value in inputs.items()}
    twice["edge_index"] = torch.cat([edges, edges + count], dim=1)
    return twice
