"""Masked autoencoders: an encoder of the visible patches and a decoder of all patches."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency, Complete, HeadEdges
from graphformer.batch_type import Batch, BatchLike
from graphformer.models.vision.embedding import (
    ImagePool,
    PatchPositions,
    check_image_pool,
    old_patch_arguments,
    patch_embedding,
)
from graphformer.models.vision.tokens import head_adjacencies
from graphformer.models.vision.vit import ViT
from graphformer.nn import Transformer, weight_std
from graphformer.nn.init import initialise
from graphformer.nn.patches import GridPositions
from graphformer.patterns import lengths
from graphformer.recorded import recorded


class MaskedAutoencoder(nn.Module):
    """An encoder of the visible patches, and a small decoder over all patches.

    Args:
        encoder: of images, without a head; the part that is used after pretraining.
        decoder: over all patches; hidden ones start as one learned token plus their position.
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

    def forward(
        self, batch: BatchLike, adjacency: Adjacency, visible: Tensor | None = None
    ) -> Tensor:
        """Predict all patches of the images from the visible ones, [N, F].

        Args:
            batch: patches `x` [N, F], `pos` [N, 2], `lengths` and `shapes`.
            adjacency: among all patches, N x N; the encoder uses its edges between visible ones.
            visible: which patches the encoder reads, bool [N]; all of them by default.
        """
        if visible is None:
            visible = torch.ones(len(batch.x), dtype=torch.bool, device=batch.x.device)
        part = visible_batch(batch, visible)
        nodes = self.widen(self.encoder(part, induced_adjacency(adjacency, visible, part.lengths)))
        x = self.mask_token.to(nodes.dtype).expand(len(visible), -1)
        x = x.index_put((visible.nonzero().squeeze(1),), nodes)
        return self.head(self.decoder(x + self._encode_positions(batch), adjacency))

    def _encode_positions(self, batch: BatchLike) -> Tensor:
        if isinstance(self.positions, GridPositions):
            return self.positions(batch.pos, batch.shapes, lengths(batch))
        return self.positions(batch.pos)


def visible_batch(batch: BatchLike, visible: Tensor) -> Batch:
    """Return the visible patches as a batch, whose `shapes` are those of the whole images."""
    counts = tuple(int(image.sum()) for image in visible.split(list(lengths(batch))))
    shapes = getattr(batch, "shapes", None)
    return Batch(x=batch.x[visible], pos=batch.pos[visible], lengths=counts, shapes=shapes)


def induced_adjacency(adjacency: Adjacency, keep: Tensor, lengths: tuple[int, ...]) -> Adjacency:
    """Return the subgraph induced by some of the nodes, numbered anew in their order.

    Args:
        adjacency: N x N.
        keep: which nodes, bool [N].
        lengths: number of nodes kept in each sample, B ints.
    """
    if isinstance(adjacency, Complete):
        return adjacencies.complete(lengths).to(adjacency.device)
    if isinstance(adjacency, HeadEdges):
        heads = head_adjacencies(adjacency)
        return HeadEdges.of(*(induced_adjacency(head, keep, lengths) for head in heads))
    new_index = keep.cumsum(0) - 1
    edge_index = adjacency.edge_index
    edge_index = new_index[edge_index[:, keep[edge_index].all(0)]]
    return adjacencies.from_edge_index(edge_index, (sum(lengths), sum(lengths)))


@old_patch_arguments("num_features", "dim", "depth", "num_heads")
@recorded
def mae(
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    channels: int,
    patch_size: int,
    decoder_dim: int = 64,
    decoder_depth: int = 2,
    decoder_heads: int = 4,
    positions: PatchPositions = "sincos",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    pool: ImagePool = "mean",
) -> MaskedAutoencoder:
    """Build a masked autoencoder, whose `encoder` has the weight names and sizes of a `vit`.

    Args:
        dim, depth, num_heads: of the encoder.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels.
        decoder_dim, decoder_depth, decoder_heads: of the decoder.
        positions, shape, max_length: as in `vit`, of encoder and decoder.
        pool: "cls" adds a class token to the encoder.

    Returns:
        A model from patches [N, F] to patches [N, F], F = channels * patch_size**2.

    Source: He et al., 2022, section 3.
    """
    pool = check_image_pool(pool)
    embed = partial(
        patch_embedding,
        channels=channels,
        patch_size=patch_size,
        positions=positions,
        shape=shape,
        max_length=max_length,
    )
    encoder = ViT(embed(dim), Transformer(dim, depth, num_heads), tokens=int(pool == "cls"))
    # Only its positions are used; making the rest too keeps the random weights of a seed.
    decoder_positions = embed(decoder_dim).positions
    assert decoder_positions is not None
    return MaskedAutoencoder(
        encoder,
        Transformer(decoder_dim, decoder_depth, decoder_heads),
        nn.Linear(dim, decoder_dim),
        decoder_positions,
        nn.Linear(decoder_dim, channels * patch_size**2),
    )
