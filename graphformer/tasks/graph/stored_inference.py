"""Outputs for a whole graph on disk, layer by layer, with memory for a part of its nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.data.graph.out_of_core.npy import NpyWriter, memory_map
from graphformer.data.graph.out_of_core.stores import StoredGraph, stored_adjacency
from graphformer.data.graph.sampling import extract_subgraph, sample_neighbors
from graphformer.models.base import AdjacencyModel, LayerSequence
from graphformer.patterns import Edges
from graphformer.tasks.labels import convert_floats


def predict_stored_graph(
    network: nn.Module,
    graph: StoredGraph,
    path: str | Path,
    adjacency: Edges | None = None,
    *,
    batch_size: int = 16_384,
) -> Tensor:
    """Write the outputs of all nodes of a graph on disk to a .npy file, layer by layer.

    The outputs of each layer are in a file beside `path` while this runs, N C numbers a layer;
    memory is for `batch_size` nodes and their sources. The result is that of `predict_whole_graph`.

    Args:
        network: a model whose layers depend on a node and its sources only, such as `gat` and the
            graph transformers; it is switched to evaluation mode.
        graph: with the fields that the model reads.
        path: the .npy file.
        adjacency: the edges, perhaps with self-loops; that of the model by default.
        batch_size: nodes in a part.

    Returns:
        The outputs [N, K], on a memory map of the file.

    Raises:
        TypeError: when the network is no model over an adjacency.
        ValueError: for a `batch_size` below 1, another adjacency, or a model with layers that
            depend on other nodes, or that pools the nodes.

    Source: Hamilton et al., 2017 (GraphSAGE), algorithm 1.
    """
    if not isinstance(network, AdjacencyModel):
        raise TypeError(
            f"network: got {type(network).__name__}, expected a model of graphformer.models"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    pattern = network.adjacency if adjacency is None else adjacency
    if not isinstance(pattern, Edges) or pattern.undirected:
        raise ValueError(
            f"adjacency: got {pattern}, expected Edges() or Edges(self_loops=True) for a graph on "
            "disk; store the edges of other adjacencies"
        )
    path = Path(path)
    network.eval()
    parts = _Parts(network, graph, pattern, batch_size)
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        states: list[Tensor] = []
        for number in range(network.depth):
            file = Path(folder) / f"layer_{number}.npy"
            states.append(_write(file, parts.layer(number, states[-1] if states else None)))
        _write(Path(folder) / "outputs.npy", parts.output(states))
        (Path(folder) / "outputs.npy").replace(path)
    return memory_map(path)


class _Parts:
    """The nodes of a graph in parts, with all edges into each."""

    def __init__(
        self, network: AdjacencyModel, graph: StoredGraph, pattern: Edges, batch_size: int
    ) -> None:
        self.network, self.graph, self.pattern = network, graph, pattern
        self.batch_size, self.edges = batch_size, stored_adjacency(graph)
        self.dtype = next(network.parameters()).dtype

    def layer(self, number: int, x: Tensor | None) -> Iterator[Tensor]:
        """Yield the outputs [n, C] of a layer for each part, from its inputs x [N, C']."""
        for nodes in self._nodes():
            sequence, adjacency, sources = self._read(nodes, hops=1)
            layer = sequence.layers[number]
            inputs = sequence.x if x is None else x[sources]
            yield layer.apply(inputs, adjacency, **layer.edge_values)[: len(nodes)]

    def output(self, states: list[Tensor]) -> Iterator[Tensor]:
        """Yield the outputs [n, K] of the model for each part, from those of all its layers."""
        for nodes in self._nodes():
            sequence, _, _ = self._read(nodes, hops=0)
            output = sequence.output([state[nodes] for state in states])
            if len(output) != len(nodes):
                raise ValueError(
                    f"network: got {len(output)} outputs for {len(nodes)} nodes, expected a model "
                    "of nodes, whose head does not pool them"
                )
            yield output

    def _nodes(self) -> Iterator[Tensor]:
        for start in range(0, self.graph.num_nodes, self.batch_size):
            yield torch.arange(start, min(start + self.batch_size, self.graph.num_nodes))

    def _read(self, nodes: Tensor, hops: int) -> tuple[LayerSequence, Adjacency, Tensor]:
        """Return the layers for some nodes and their sources, the edges among these, and both."""
        sample = sample_neighbors(self.edges, nodes, [-1] * hops)
        batch = convert_floats(extract_subgraph(self.graph, self.edges, sample), self.dtype)
        # In canonical order an edge's number is its slot, by which its values are indexed.
        adjacency = self.pattern(batch).to_csr().canonical()
        sequence = self.network.layer_sequence(batch, adjacency)
        if not sequence.is_local:
            raise ValueError(
                f"network: got {type(self.network).__name__} with layers that depend on more than "
                "a node and its sources, expected gat or a graph transformer without local layers"
            )
        return sequence, adjacency, sample.nodes


def _write(path: Path, parts: Iterable[Tensor]) -> Tensor:
    """Write parts [n, C] one below the other to a .npy file; return its memory map."""
    parts = iter(parts)
    first = next(parts).numpy()
    with NpyWriter(path, first.dtype, first.shape[1:]) as file:
        file.append(first)
        for part in parts:
            file.append(part.numpy())
    return memory_map(path, is_random=True)
