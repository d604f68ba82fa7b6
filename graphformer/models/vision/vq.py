"""Vector-quantised autoencoders: images as one code for each patch, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.batch_type import BatchLike
from graphformer.nn.patches import Convolutions, Shape, by_shape, patchify
from graphformer.patterns.fields import require_field
from graphformer.recorded import recorded


class Quantized(NamedTuple):
    """The nearest codes of vectors.

    Attributes:
        vectors: of the codes, [N, D]; their gradient is that of the input (straight-through).
        codes: int64 [N].
        error: squared distance of each input to its code, [N], as `VectorQuantizer` weighs it.
    """

    vectors: Tensor
    codes: Tensor
    error: Tensor


class VectorQuantizer(nn.Module):
    """Replaces vectors by the nearest of K learned ones, all of length one.

    The error of a vector z with the code e is |sg(z) - e|^2 + commitment |z - sg(e)|^2, where sg
    stops the gradient: the first term trains the codes, the second the encoder. In training, the
    mean distance of the codes that no vector of the batch has to the vector nearest to each is
    added, so that unused codes move to where vectors are.

    Args:
        num_codes: K.
        dim: width D; a small one, such as 8, keeps more codes in use.
        commitment: weight of the second term.

    Raises:
        ValueError: when num_codes is below 2 or dim below 1.

    Source: van den Oord et al., 2017, "Neural discrete representation learning", equation 3; unit
    length and small width: Yu et al., 2022, "Vector-quantized image modeling with improved VQGAN",
    section 3.2; unused codes moved to their nearest vectors: Zheng and Vedaldi, 2023, "Online
    clustered codebook", there by a running mean in place of a gradient.
    """

    def __init__(self, num_codes: int, dim: int, *, commitment: float = 0.25) -> None:
        super().__init__()
        if num_codes < 2 or dim < 1:
            raise ValueError(
                f"num_codes and code_dim: got {num_codes} and {dim}, expected 2 or more codes and "
                "a width of 1 or more"
            )
        self.commitment = commitment
        self.codebook = nn.Parameter(F.normalize(torch.randn(num_codes, dim), dim=-1))

    def forward(self, x: Tensor) -> Quantized:
        """Return the nearest codes of vectors [N, D]."""
        z, codebook = F.normalize(x, dim=-1), F.normalize(self.codebook, dim=-1)
        with torch.no_grad():  # of vectors of length one, the largest product is the nearest
            similarity = z @ codebook.T  # [N, K]
            codes = similarity.argmax(-1)
        e = codebook[codes]
        error = (z.detach() - e).square().sum(-1)
        error = error + self.commitment * (z - e.detach()).square().sum(-1)
        if self.training and len(z):
            error = error + _distance_of_unused(codebook, z.detach(), codes, similarity)
        return Quantized(z + (e - z).detach(), codes, error)

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors [N, D] of codes [N]."""
        return F.normalize(self.codebook, dim=-1)[codes]


def _distance_of_unused(codebook: Tensor, z: Tensor, codes: Tensor, similarity: Tensor) -> Tensor:
    """The mean |e - z|^2 of codes e that no vector has, and the vectors z nearest to each; []."""
    is_used = torch.zeros(len(codebook), dtype=torch.bool, device=z.device)
    is_used[codes] = True
    distance = (codebook - z[similarity.argmax(0)]).square().sum(-1)
    return distance.masked_fill(is_used, 0).sum() / (~is_used).sum().clamp(min=1)


class VQOutput(NamedTuple):
    """The output of `VQAutoencoder`.

    Attributes:
        patches: reconstructed, [N, F].
        codes: of each patch, int64 [N].
        error: of the quantisation of each patch, [N]; see `VectorQuantizer`.
    """

    patches: Tensor
    codes: Tensor
    error: Tensor


class VQAutoencoder(nn.Module):
    """Convolutions from images to one vector per patch, its nearest code, and back to images.

    A patch is a node of its image. Neighbours reach a code only through the kernels of the
    convolutions, so there is no attention and no adjacency. `vq_autoencoder` builds it.

    Args:
        encoder: from patches [N, F] and their shapes to nodes [N, C].
        quantizer: of vectors [N, D].
        decoder: from nodes [N, C] and their shapes to patches [N, F].
        dim: C.
        code_dim: D.
    """

    def __init__(
        self,
        encoder: Convolutions,
        quantizer: VectorQuantizer,
        decoder: UpConvolutions,
        *,
        dim: int,
        code_dim: int,
    ) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.to_code, self.from_code = nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)

    @property
    def num_codes(self) -> int:
        """Number of codes, K."""
        return len(self.quantizer.codebook)

    @property
    def code_dim(self) -> int:
        """Width of a code, D."""
        return self.quantizer.codebook.shape[1]

    def forward(self, batch: BatchLike, adjacency: Adjacency | None = None) -> VQOutput:
        """Return the reconstruction of a batch of patches.

        Args:
            batch: patches `x` [N, F] and `shapes`.
            adjacency: unused; a task passes one.
        """
        quantized, shapes = self._quantize(batch)
        patches = self.decoder(self.from_code(quantized.vectors), shapes)
        return VQOutput(patches, quantized.codes, quantized.error)

    def encode(self, batch: BatchLike) -> Tensor:
        """Return the code of each patch of a batch, int64 [N]."""
        return self._quantize(batch)[0].codes

    def latents(self, batch: BatchLike) -> Tensor:
        """Return the vector of each patch before its code is chosen, of length one, [N, D]."""
        return F.normalize(self._vectors(batch)[0], dim=-1)

    def decode_latents(self, latents: Tensor, shapes: tuple[Shape, ...]) -> Tensor:
        """Return the patches [N, F] of the codes nearest to latents [N, D] of any length.

        Args:
            latents: of the patches of all images, row by row.
            shapes: rows and columns of each image, B pairs.

        Raises:
            ValueError: when the number of latents is not that of the shapes' cells.

        Source: Rombach et al., 2022, "High-resolution image synthesis with latent diffusion
        models", section 3.1 (the quantisation is the decoder's first layer).
        """
        return self.decode(self.quantizer(latents).codes, shapes)

    def decode(self, codes: Tensor, shapes: tuple[Shape, ...]) -> Tensor:
        """Return the patches [N, F] of codes.

        Args:
            codes: of the patches of all images, row by row, int64 [N].
            shapes: rows and columns of each image, B pairs.

        Raises:
            ValueError: when the number of codes is not that of the shapes' cells, or a code is out
                of range.
        """
        count = sum(rows * columns for rows, columns in shapes)
        if codes.shape != (count,):
            raise ValueError(
                f"codes: got shape {tuple(codes.shape)}, expected the {count} cells of the shapes"
            )
        if count and not 0 <= int(codes.min()) <= int(codes.max()) < self.num_codes:
            raise ValueError(
                f"codes: got {int(codes.min())} to {int(codes.max())}, expected 0 to "
                f"{self.num_codes - 1}"
            )
        return self.decoder(self.from_code(self.quantizer.vectors(codes)), shapes)

    def _quantize(self, batch: BatchLike) -> tuple[Quantized, tuple[Shape, ...]]:
        vectors, shapes = self._vectors(batch)
        return self.quantizer(vectors), shapes

    def _vectors(self, batch: BatchLike) -> tuple[Tensor, tuple[Shape, ...]]:
        shapes = require_field(batch, "shapes", "VQAutoencoder puts patches together to images")
        return self.to_code(self.encoder(batch.x, shapes)), shapes


class UpConvolutions(nn.Module):
    """Convolutions that double the sides of a grid of nodes, up to the pixels of patches.

    Args:
        num_features: width of a flattened patch, C * patch_size**2.
        dim: width of the nodes.
        patch_size: side of a patch in pixels, a power of 2.
        depth: number of layers before each doubling.
    """

    def __init__(self, num_features: int, dim: int, patch_size: int, *, depth: int = 1) -> None:
        super().__init__()
        self.patch_size = patch_size
        layers: list[nn.Module] = []
        width = dim
        for _ in range(patch_size.bit_length() - 1):
            for _ in range(depth):
                layers += [nn.Conv2d(width, width, 3, padding=1), _norm(width), nn.GELU()]
            after = max(width // 2, 8)
            layers += [nn.ConvTranspose2d(width, after, 2, 2), _norm(after), nn.GELU()]
            width = after
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(width, num_features // patch_size**2, 3, padding=1)
        )

    def forward(self, x: Tensor, shapes: tuple[Shape, ...]) -> Tensor:
        """Return patches [N, num_features] of nodes x [N, dim] of images of these shapes."""
        return by_shape(x, shapes, self._run)[0]

    def _run(self, nodes: Tensor) -> Tensor:
        return patchify(self.layers(nodes.permute(0, 3, 1, 2)), self.patch_size)


def _norm(width: int) -> nn.GroupNorm:
    """Normalisation within each image, so that the result does not depend on the batch."""
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if width % g == 0), width)


@recorded
def vq_autoencoder(
    dim: int = 64,
    *,
    channels: int,
    patch_size: int,
    num_codes: int = 128,
    code_dim: int = 8,
    depth: int = 1,
    commitment: float = 0.25,
) -> VQAutoencoder:
    """Build a vector-quantised autoencoder with one code for each patch.

    Args:
        dim: width of the nodes.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels, a power of 2.
        num_codes: size of the codebook, K.
        code_dim: width of a code.
        depth: convolutions after each that halves the sides, and before each that doubles them.
        commitment: weight of the distance of the encoder's vectors to their codes.

    Returns:
        A model from patches [N, channels * patch_size**2] to a `VQOutput`.

    Raises:
        ValueError: when patch_size is no power of 2, or a number is out of range.

    Source: van den Oord et al., 2017; as the first stage of DALL-E: Ramesh et al., 2021.
    """
    num_features = channels * patch_size**2
    return VQAutoencoder(
        Convolutions(num_features, dim, patch_size, depth=depth),
        VectorQuantizer(num_codes, code_dim, commitment=commitment),
        UpConvolutions(num_features, dim, patch_size, depth=depth),
        dim=dim,
        code_dim=code_dim,
    )
