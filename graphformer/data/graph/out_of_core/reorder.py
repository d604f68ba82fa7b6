"""A stored graph with its nodes in another order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphformer.data.base import SPLITS
from graphformer.data.graph.out_of_core.names import NodeNames, Texts
from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph
from graphformer.data.graph.out_of_core.writer import EdgeChunk, write_graph

_ROWS = 1 << 20


def reorder_graph(graph: MemoryMappedGraph, folder: str | Path, order: Tensor) -> MemoryMappedGraph:
    """Write a graph with its nodes in another order to a folder, in chunks; see `write_graph`.

    The nodes keep their names; without names they have their numbers in `graph` as names, which
    tables of predictions show. Memory is for some numbers a node.

    Args:
        graph: to read.
        folder: of the new graph; it must not exist.
        order: the nodes in the new order, int64 [N], such as `order_nodes` returns.

    Raises:
        ValueError: when `order` has other nodes than 0 to N - 1, each once.
    """
    if len(order) != graph.num_nodes or not torch.equal(
        order.sort().values, torch.arange(graph.num_nodes)
    ):
        raise ValueError(
            f"order: got {len(order)} nodes, expected each from 0 to {graph.num_nodes - 1} once"
        )
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))
    names = [str(each.attr_name) for each in graph.get_all_tensor_attrs()]
    return write_graph(
        folder,
        num_nodes=graph.num_nodes,
        edges=_edges(graph, position, has_attributes="edge_attr" in names),
        fields={name: _field(graph, name, order) for name in names if "edge" not in name},
        splits={
            split: position[graph.split_nodes(split)].sort().values.numpy()
            for split in SPLITS
            if split in graph.splits
        },
        class_names=graph.class_names,
        node_names=_names(graph.node_names, order),
    )


def _edges(
    graph: MemoryMappedGraph, position: Tensor, *, has_attributes: bool
) -> Iterator[EdgeChunk]:
    sources, indptr = graph.get_edge_index(None, "csc")
    for start in range(0, graph.num_edges, _ROWS):
        stop = min(start + _ROWS, graph.num_edges)
        numbers = torch.arange(start, stop, dtype=indptr.dtype)
        target = torch.searchsorted(indptr, numbers, right=True) - 1
        ends = torch.stack([position[sources[start:stop].long()], position[target]]).numpy()
        if has_attributes:
            yield ends, graph.get_tensor(None, "edge_attr", index=slice(start, stop)).numpy()
        else:
            yield ends


def _field(graph: MemoryMappedGraph, name: str, order: Tensor) -> Iterator[np.ndarray]:
    for nodes in order.split(_ROWS):
        yield graph.get_tensor(None, name, index=nodes).numpy()


def _names(names: NodeNames | None, order: Tensor) -> Iterator[Texts]:
    for nodes in order.split(_ROWS):
        texts = list(map(str, nodes.tolist())) if names is None else names.read(nodes)
        encoded = [text.encode() for text in texts]
        starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        yield Texts(np.frombuffer(b"".join(encoded), np.uint8), starts)
