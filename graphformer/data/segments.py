"""`place`: batches of several modalities as one batch, whose samples have a segment of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.batch_type import Batch, BatchLike
from graphformer.patterns import AdjacencyLike, resolve_single
from graphformer.patterns import lengths as sample_lengths


def place(segments: Sequence[BatchLike], adjacencies: Sequence[AdjacencyLike]) -> Batch:
    """Put the samples of several batches side by side: sample b has a segment of each batch.

    The nodes of a sample are those of its segments, in the order of the arguments. As modalities
    have features of different kinds, the result has none: `x` says where each node comes from, so
    that with embedded segments x_s [N_s, C] the nodes are `torch.cat([x_0, x_1, ...])[batch.x]`.

    Args:
        segments: batches of B samples each, such as of `pack_tokens`, `pack_images` or PyG.
        adjacencies: for each batch, which of its nodes attend to which: an adjacency, a pattern or
            an edge_index.

    Returns:
        A batch with x (row of each node in the nodes of all segments, one after the other, int64
        [N]), node_type (number of its segment, int64 [N]), lengths (B ints), documents (the length
        of each segment of each sample, B * S ints) and edge_index (the edges within segments).

    Raises:
        ValueError: when there are none, or as many adjacencies as segments are not given, or the
            numbers of samples differ.
    """
    sizes = [sample_lengths(segment) for segment in segments]
    _check(sizes, adjacencies)
    documents = [n for sample in zip(*sizes, strict=True) for n in sample]
    order = segment_order(sizes)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))  # row of the concatenated nodes -> node
    node_type = torch.arange(len(sizes)).repeat_interleave(torch.tensor([sum(s) for s in sizes]))
    edges, start = [], 0
    for segment, adjacency, size in zip(segments, adjacencies, sizes, strict=True):
        within = resolve_single(adjacency, segment).edge_index.to(order.device)
        edges.append(position[within + start])
        start += sum(size)
    return Batch(
        x=order,
        node_type=node_type[order],
        lengths=tuple(map(sum, zip(*sizes, strict=True))),
        documents=tuple(documents),
        edge_index=torch.cat(edges, dim=1),
    )


def _check(sizes: list[tuple[int, ...]], adjacencies: Sequence[AdjacencyLike]) -> None:
    if not sizes or len(sizes) != len(adjacencies):
        raise ValueError(
            f"adjacencies: got {len(adjacencies)} for {len(sizes)} segments, expected one for each "
            "of one or more segments; give a pattern for each"
        )
    if len({len(size) for size in sizes}) > 1:
        counts = ", ".join(str(len(size)) for size in sizes)
        raise ValueError(
            f"segments: got batches of {counts} samples, expected equally many in each; give an "
            "empty sequence where a sample lacks a modality"
        )


def segment_order(sizes: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the rows of the concatenated segments, int64 [N], ordered by sample, then segment.

    Args:
        sizes: for each segment, its number of nodes in each sample.
    """
    rows, start = [], 0
    for size in sizes:
        rows.append(torch.arange(start, start + sum(size)).split(list(size)))
        start += sum(size)
    return torch.cat([row for sample in zip(*rows, strict=True) for row in sample])
