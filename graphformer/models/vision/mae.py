"""Masked autoencoders: most of an image is hidden, and told from what is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency, Complete, HeadEdges
from graphformer.models.vision.vit import (
    PatchPositions,
    ViT,
    check_pool,
    head_adjacencies,
    patch_embedding,
)
from graphformer.nn import Transformer, weight_std
from graphformer.nn.init import initialise
from graphformer.nn.patches import GridPositions
from graphformer.patterns import lengths


class MaskedAutoencoder(nn.Module):
    """An encoder of the visible patches alone, and a light decoder over all places.

    Args:
        encoder: of images, without a head; to be kept.
        decoder: over all patches, the hidden ones as one learned token at their places.
        widen: from the encoder's width to the decoder's.
        positions: of the decoder's nodes.
        head: from the decoder's nodes to patches.

    Source: He et al., 2022, "Masked autoencoders are scalable vision learners".
    """

    def __init__(
        self,
        encoder: ViT,
        decoder: Transformer,
        widen: nn.Linear,
        positions: nn.Module,
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.widen = encoder, decoder, widen
        self.positions, self.head = positions, head
        self.mask_token = nn.Parameter(weight_std(decoder.dim) * torch.randn(decoder.dim))
        for part in (decoder, widen, head):
            initialise(part, std=weight_std(decoder.dim), depth=len(decoder.blocks))

    def forward(self, batch: Any, adjacency: Adjacency, visible: Tensor | None = None) -> Tensor:
        """Tell all patches of images from the visible ones: [N, F].

        Args:
            batch: patches `x` [N, F], `pos` [N, 2], `lengths` and `shapes`.
            adjacency: who attends to whom among all patches, N x N; the visible ones attend along
                those of its edges that join two of them.
            visible: which patches the encoder sees, bool [N]; all of them by default.
        """
        if visible is None:
            visible = torch.ones(len(batch.x), dtype=torch.bool, device=batch.x.device)
        seen = visible_batch(batch, visible)
        nodes = self.widen(self.encoder(seen, induced_adjacency(adjacency, visible, seen.lengths)))
        x = self.mask_token.to(nodes.dtype).expand(len(visible), -1)
        x = x.index_put((visible.nonzero().squeeze(1),), nodes)
        return self.head(self.decoder(x + self._places(batch), adjacency))

    def _places(self, batch: Any) -> Tensor:
        if isinstance(self.positions, GridPositions):
            return self.positions(batch.pos, batch.shapes, lengths(batch))
        return self.positions(batch.pos)


def visible_batch(batch: Any, visible: Tensor) -> Any:
    """The visible patches of a batch as one of their own; `shapes` stay those of whole images."""
    counts = [int(part.sum()) for part in visible.split(list(lengths(batch)))]
    return SimpleNamespace(
        x=batch.x[visible],
        pos=batch.pos[visible],
        lengths=tuple(counts),
        shapes=getattr(batch, "shapes", None),
        num_nodes=sum(counts),
    )


def induced_adjacency(adjacency: Adjacency, keep: Tensor, sizes: tuple[int, ...]) -> Adjacency:
    """The edges among some of the nodes, which are numbered anew.

    Args:
        adjacency: N x N.
        keep: which nodes, bool [N].
        sizes: how many of them each sample has.
    """
    if isinstance(adjacency, Complete):
        return adjacencies.complete(sizes).to(adjacency.device)
    if isinstance(adjacency, HeadEdges):
        return HeadEdges.of(
            *(induced_adjacency(part, keep, sizes) for part in head_adjacencies(adjacency))
        )
    number = keep.cumsum(0) - 1
    edges = adjacency.edge_index
    edges = number[edges[:, keep[edges].all(0)]]
    count = sum(sizes)
    return adjacencies.from_edge_index(edges, (count, count))


def mae(
    num_features: int,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    decoder_dim: int = 64,
    decoder_depth: int = 2,
    decoder_heads: int = 4,
    positions: PatchPositions = "sincos",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    pool: Literal["mean", "class"] = "mean",
) -> MaskedAutoencoder:
    """A masked autoencoder, whose `encoder` has the names and sizes of `vit`.

    Args:
        num_features: width of a flattened patch.
        dim, depth, num_heads: of the encoder.
        decoder_dim, decoder_depth, decoder_heads: of the decoder.
        positions, shape, max_length: as in `vit`, of both.
        pool: "class" gives the encoder a class token.

    Returns:
        A model from patches [N, num_features] to patches [N, num_features].

    Source: He et al., 2022, section 3.
    """
    check_pool(pool)
    places: dict[str, Any] = {"positions": positions, "shape": shape, "max_length": max_length}
    encoder = ViT(
        patch_embedding(num_features, dim, **places),
        Transformer(dim, depth, num_heads),
        tokens=int(pool == "class"),
    )
    own = patch_embedding(num_features, decoder_dim, **places).positions
    assert own is not None
    return MaskedAutoencoder(
        encoder,
        Transformer(decoder_dim, decoder_depth, decoder_heads),
        nn.Linear(dim, decoder_dim),
        own,
        nn.Linear(decoder_dim, num_features),
    )
