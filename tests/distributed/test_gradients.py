"""Every parameter has a gradient in every batch, as distributed training requires."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.processes import run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models, patterns
from graphformer.data.batch import pack_tokens

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "gat": lambda: models.gat(5, 3, dim=3, num_heads=2),
    "gatv2": lambda: models.gat(5, 3, dim=3, num_heads=2, v2=True, num_edge_features=7),
    "gcn": lambda: models.gcn(5, 3, dim=11),
    "gcn, normalised": lambda: models.gcn(5, 3, dim=11, norm="batch"),
    "gcn, jumps": lambda: models.gcn(5, 3, dim=11, norm="layer", jump="max"),
    "graph transformer": lambda: models.graph_transformer(
        5, 3, dim=6, num_heads=2, num_edge_features=7
    ),
    "gps": lambda: models.gps(5, 3, dim=6, depth=1, num_heads=2, num_edge_features=7),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_without_edges_has_all_gradients(name: str):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    edges = torch.zeros(2, 0, dtype=torch.int64)
    graph = Data(x=torch.randn(13, 5), edge_index=edges, edge_attr=torch.zeros(0, 7))
    network(graph, patterns.Edges()).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_experts_without_a_token_have_gradients():
    network = models.llama(11, dim=12, depth=1, num_heads=2, max_length=13, num_experts=7)
    batch = pack_tokens([[3]])  # one token, 7 experts
    network(batch, patterns.Causal()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def gradients(recomputes: list[bool | str | int]) -> list[list[Tensor]]:
    """The gradients of a DDP model on this rank's nodes, by what is recomputed."""
    results = []
    for each in recomputes:
        torch.manual_seed(3)
        model = gf.Transformer(
            dim=10, depth=3, num_heads=5, dropout=0.3, activation_checkpointing=each
        )
        parallel = DistributedDataParallel(model)
        torch.manual_seed(torch.distributed.get_rank())
        parallel(torch.randn(7, 10), gf.causal([3, 4])).square().sum().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    return results


@pytest.mark.slow
def test_checkpointing_gives_the_gradients_of_ddp():
    ranks = run_ranks(gradients, 2, [False, True, 2, "attention"])
    for (stored, *others), first in zip(ranks, [ranks[0][0]] * 2, strict=True):
        for grads in others:
            for got, expected, of_first in zip(grads, stored, first, strict=True):
                assert torch.equal(got, expected)
                assert torch.equal(got, of_first)


def test_compiled_checkpointing_gives_the_gradients_of_eager_blocks():
    x, adjacency = torch.randn(7, 10), gf.causal([3, 4])
    results = []
    for recomputes in (False, True):
        torch.manual_seed(3)
        model = gf.Transformer(dim=10, depth=2, num_heads=5, activation_checkpointing=recomputes)
        run = torch.compile(model, backend="aot_eager") if recomputes else model
        loss = run(x, adjacency).square().sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for compiled, eager in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
