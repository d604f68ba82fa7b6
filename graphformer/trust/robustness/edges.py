"""Random and adversarial changes of the edges of a graph."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GINConv
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.utils import to_undirected

from graphformer.adjacency import Adjacency
from graphformer.nn.graph import HybridBlock
from graphformer.tasks import Classification

_SMALLEST = 1e-30
"""Weights below count as this one: its logarithm is finite, and its exponential is 0 in float32."""
_LOCAL_LAYERS = (GCNConv, GINConv)


class EdgeWeights(nn.Module):
    """A node classifier as a differentiable function of edge weights: (x, edge_index, w) -> logits.

    A weight of 1 is an edge and 0 none: the bias log w is added to the logits of attention, so that
    the attention of an edge is proportional to its weight. PyG's GCN gets the weights themselves,
    and messages of GIN are multiplied by them. Edges that the task's pattern has without the
    graph's edges, such as self-loops or all of a complete adjacency, keep weight 1.

    Args:
        task: a classification of nodes.
        graph: its one graph, without features of edges.

    Raises:
        ValueError: when the graph has edge features, or the network passes messages beside
            attention by a layer that would not see the weights.
    """

    def __init__(self, task: Classification, graph: Data) -> None:
        super().__init__()
        if graph.get("edge_attr") is not None or graph.get("edge_type") is not None:
            raise ValueError(
                "graph: got features of edges, expected none, because a new edge has none; choose "
                "other data"
            )
        for module in task.network.modules():
            if isinstance(module, HybridBlock) and not isinstance(module.local, _LOCAL_LAYERS):
                raise ValueError(
                    f"network: got {type(module.local).__name__} beside attention, expected "
                    "GCNConv or GINConv, whose messages have weights; choose another model"
                )
        self.task, self.graph = task, graph

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the logits [N, K] over edges [2, E] of weights [E], all 1 by default."""
        graph = with_edges(self.graph, edge_index)
        graph.x = x
        adjacency = self.task.adjacency(graph)
        if edge_weight is None:
            output: Tensor = self.task.network(graph, adjacency)
            return output
        weight = self._weight_of_edges(adjacency, edge_index, edge_weight)
        with weighted_edges(self.task.network, weight, edge_weight):
            weighted: Tensor = self.task.network(graph, adjacency)
        return weighted

    def _weight_of_edges(
        self, adjacency: Adjacency, edges: Tensor, weight: Tensor
    ) -> Tensor | None:
        """Return the weight of each edge of the adjacency, 1 for those of the pattern itself.

        None if the pattern does not depend on the graph's edges, as a complete adjacency.
        """
        without = self.task.adjacency(with_edges(self.graph, edges[:, :0]))
        if without.num_edges == adjacency.num_edges:
            return None
        source, target = adjacency.edge_index.long()
        given = adjacency.find_edges(edges[1], edges[0])
        spread = weight.new_ones(adjacency.num_edges).index_put((given,), weight)
        return torch.where(without.find_edges(target, source) >= 0, 1.0, spread)


def with_edges(graph: Data, edge_index: Tensor) -> Data:
    """Return a shallow copy of a graph with other edges, in memory of their own.

    Adjacencies are cached by the tensor of the edges, which the copy keeps from being reused.
    """
    other = copy.copy(graph)
    other.edge_index = edge_index.clone()
    return other


@contextmanager
def weighted_edges(network: nn.Module, weight: Tensor | None, local: Tensor) -> Iterator[None]:
    """Weight the edges of attention and of PyG's layers within a `with` block.

    Args:
        network: the network.
        weight: of each edge of its adjacency, [E]; None for 1.
        local: of each edge of the graph, [E'], for layers beside attention.
    """
    handles = []
    for module in network.modules():
        takes_bias = {"return_weights", "bias"} <= signature(module.forward).parameters.keys()
        if takes_bias and weight is not None:
            handles.append(module.register_forward_pre_hook(_bias_hook(weight), with_kwargs=True))
        elif isinstance(module, BasicGNN):
            hook = _weight_hook(local if weight is None else weight)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        elif isinstance(module, HybridBlock) and isinstance(module.local, GCNConv):
            hook = _weight_hook(local)
            handles.append(module.local.register_forward_pre_hook(hook, with_kwargs=True))
        elif isinstance(module, HybridBlock) and isinstance(module.local, GINConv):
            handles.append(module.local.register_message_forward_hook(_message_hook(local)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _bias_hook(weight: Tensor) -> Any:
    bias = weight.clamp(min=_SMALLEST).log().unsqueeze(1)

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        own = kwargs.get("bias")
        heads: Any = module.heads
        total = bias.expand(-1, heads[0]) if own is None else own + bias
        return args, {**kwargs, "bias": total}

    return hook


def _weight_hook(weight: Tensor) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "edge_weight": weight}

    return hook


def _message_hook(weight: Tensor) -> Any:
    def hook(module: nn.Module, inputs: Any, message: Tensor) -> Tensor:
        return message * weight.unsqueeze(1)

    return hook


def prbcd(
    model: EdgeWeights,
    x: Tensor,
    edge_index: Tensor,
    y: Tensor,
    *,
    budget: int,
    nodes: Tensor,
    epochs: int = 40,
    block_size: int = 50_000,
    seed: int = 0,
) -> Tensor:
    """Return the edges [2, E'] after an attack that adds or removes undirected edges.

    Args:
        model: the attacked one.
        x: features, [N, F].
        edge_index: undirected edges, both directions, [2, E].
        y: classes, [N].
        budget: number of undirected edges that are changed at most.
        nodes: those whose classification is attacked, bool [N].
        epochs: steps of the attack; the last fifth does not sample other candidates.
        block_size: number of candidate edges.
        seed: of the candidates.

    Source: Geisler et al., 2021, https://arxiv.org/abs/2110.14038, as `PRBCDAttack` of PyG.
    """
    with warnings.catch_warnings():  # PyG's `contrib` warns at its import
        warnings.filterwarnings("ignore", message=".*contains experimental code")
        from torch_geometric.contrib.nn import PRBCDAttack
    block_size = max(block_size, 2 * budget + 1)
    options = {"epochs": epochs, "epochs_resampling": epochs - epochs // 5, "log": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attack = PRBCDAttack(model, block_size, loss="tanh_margin", **options)
        changed, _ = attack.attack(x, edge_index, y, budget=budget, idx_attack=nodes)
    return changed


def perturb_edges(
    edge_index: Tensor, num_nodes: int, *, removed: int, added: int, generator: torch.Generator
) -> Tensor:
    """Return undirected edges, both directions, without some at random and with new random ones.

    Args:
        edge_index: undirected edges, both directions, int64 [2, E].
        num_nodes: N.
        removed, added: numbers of undirected edges.
        generator: of the draws.
    """
    single = edge_index[:, edge_index[0] <= edge_index[1]]
    kept = single[:, torch.randperm(single.shape[1], generator=generator)[removed:].sort().values]
    new = torch.randint(num_nodes, (2, 4 * added + 16), generator=generator)
    new = new[:, new[0] != new[1]].sort(0).values
    known = single[0] * num_nodes + single[1]
    new = new[:, ~torch.isin(new[0] * num_nodes + new[1], known)].unique(dim=1)
    new = new[:, torch.randperm(new.shape[1], generator=generator)[:added]]
    return to_undirected(torch.cat([kept, new], dim=1), num_nodes=num_nodes)
