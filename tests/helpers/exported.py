"""Exported models of a graph, a text and an image, with samples of other sizes."""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.data import Data

from graphformer import models, patterns
from graphformer.batch_type import BatchLike
from graphformer.data import pack_images, pack_tokens
from graphformer.export import Exported, export_model


def graph(nodes: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(nodes, (2, 3 * nodes), generator=generator).unique(dim=1)
    edges = edges[:, torch.randperm(edges.shape[1], generator=generator)]
    return Data(
        x=torch.randn(nodes, 5, generator=generator),
        edge_index=edges,
        edge_attr=torch.randn(edges.shape[1], 3, generator=generator),
        lengths=(nodes,),
    )


def graph_model() -> nn.Module:
    torch.manual_seed(0)
    return models.graph_transformer(
        5, 7, dim=6, depth=1, num_heads=2, num_edge_features=3, pool="mean"
    )


def text_model() -> nn.Module:
    torch.manual_seed(0)
    return models.text_classifier(29, 3, dim=6, depth=1, num_heads=2, max_length=31)


def image_model() -> nn.Module:
    torch.manual_seed(0)
    return models.vit(3, channels=2, patch_size=2, dim=6, depth=1, num_heads=2)


def text(length: int) -> BatchLike:
    return pack_tokens([torch.arange(length) * 5 % 29])


def image(seed: int) -> BatchLike:
    pixels = torch.randn(1, 2, 6, 10, generator=torch.Generator().manual_seed(seed))
    return pack_images(pixels, 2)


def exported(name: str) -> tuple[nn.Module, Exported, list[BatchLike]]:
    """Return a model, its program, and samples of other sizes where these may vary."""
    if name == "edges":
        network, pattern = graph_model(), patterns.Edges(self_loops=True)
        return network, export_model(network, pattern, graph(7, 0)), [graph(5, 1), graph(23, 2)]
    if name == "nodes":
        network = text_model()
        program = export_model(network, patterns.Complete(), text(7), form="nodes")
        return network, program, [text(3), text(23)]
    network = image_model()
    program = export_model(network, patterns.Grid(1), image(0), form="fixed", patch_size=2)
    return network, program, [image(1)]
