"""Images and texts in one space: two towers, and how near their vectors are."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.models.model import Model
from graphformer.models.text.trunk import text_trunk
from graphformer.models.vision.vit import ViT, check_pool, patch_embedding
from graphformer.nn import Head, Transformer
from graphformer.patterns import Causal, Complete, Pattern, lengths

MAX_LOG_SCALE = math.log(100)
"""The largest scale of similarities, as a logarithm: a larger one makes training unstable."""


class CLIP(nn.Module):
    """A tower of images and one of texts, whose vectors of length one are compared.

    `models.search` finds the nearest ones: images for a text, or texts for an image.

    A batch is one of texts, `y` [M] and `lengths`, with images `source`, `source_lengths`,
    `source_pos` and `source_shapes`, as captions come.

    Args:
        image, text: answer with a vector a sample, [B, C].
        image_adjacency: who attends to whom in an image; may be replaced at any time.
        scale: what similarities are multiplied by at first; it is learned, and at most 100.

    One from a checkpoint also has its `tokenizer`, its `config` and the text of other `files`.

    Source: Radford et al., 2021, "Learning transferable visual models from natural language".
    """

    def __init__(
        self,
        image: ViT,
        text: Model,
        *,
        image_adjacency: Pattern = Complete(),
        scale: float = 1 / 0.07,
    ) -> None:
        super().__init__()
        self.image, self.text, self.image_adjacency = image, text, image_adjacency
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.tokenizer: Any = None
        self.config: dict[str, Any] | None = None
        self.extra_files: dict[str, str] = {}
        self.exporter: Callable[[Any, str | os.PathLike[str]], None] | None = None

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by, the inverse of the temperature, []."""
        return self.log_scale.clamp(max=MAX_LOG_SCALE).exp()

    def forward(self, batch: Any, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
        """The vectors of images and of texts, [B, C] each; `adjacency` is that of the texts."""
        return self.encode_image(image_batch(batch)), self.encode_text(
            caption_batch(batch), adjacency
        )

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a folder that `transformers` opens; see `graphformer.pretrained`."""
        if self.exporter is None:
            raise ValueError(
                "save_pretrained: got a model that is not from a checkpoint, expected one from "
                "gf.from_pretrained; save it by torch.save(model.state_dict(), path) instead."
            )
        self.exporter(self, path)

    def encode_image(self, batch: Any) -> Tensor:
        """Vectors [B, C] of length one of a batch of patches."""
        return F.normalize(self.image(batch, self.image_adjacency(batch)).float(), dim=-1)

    def encode_text(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """Vectors [B, C] of length one of a batch of tokens `x` [M], each text with its end."""
        return F.normalize(self.text(batch, adjacency).float(), dim=-1)

    def class_vectors(
        self, said: Sequence[Sequence[Sequence[int]]], pattern: Pattern = Causal()
    ) -> Tensor:
        """What stands for each class, [K, C]: the mean of what may be said of it, of length one.

        Args:
            said: token ids of some texts about each class, each text with its end.
            pattern: who attends to whom in a text.

        Raises ValueError for a class of which nothing is said.

        Source: Radford et al., 2021, section 3.1.4 (prompt ensembling).
        """
        silent = [number for number, own in enumerate(said) if not own]
        if silent or not said:
            which = f"number {silent[0]}" if silent else "there is no class that"
            raise ValueError(f"said must have a text about each class, but {which} has none")
        batch = text_batch([text for own in said for text in own], self.log_scale.device)
        vectors = self.encode_text(batch, pattern(batch))
        means = [part.mean(0) for part in vectors.split([len(own) for own in said])]
        return F.normalize(torch.stack(means), dim=-1)

    def zero_shot(self, batch: Any, classes: Tensor) -> Tensor:
        """Probabilities [B, K] of a batch of patches to be of each of the classes [K, C]."""
        return (self.scale * self.encode_image(batch) @ classes.T).softmax(-1)


def image_batch(batch: Any) -> Any:
    """The images of a batch of captions as a batch of their own."""
    return SimpleNamespace(
        x=batch.source,
        pos=batch.source_pos,
        lengths=tuple(map(int, batch.source_lengths)),
        shapes=list(batch.source_shapes),
        num_nodes=len(batch.source),
    )


def caption_batch(batch: Any) -> Any:
    """The texts of a batch of captions, each up to its end, as a batch of their own."""
    return SimpleNamespace(x=batch.y, pos=batch.pos, lengths=lengths(batch), num_nodes=len(batch.y))


def slice_batch(batch: Any, first: int, last: int) -> Any:
    """Some samples of a packed batch of images or texts, from `first` up to `last`."""
    sizes = lengths(batch)
    rows = slice(sum(sizes[:first]), sum(sizes[:last]))
    shapes = getattr(batch, "shapes", None)
    return SimpleNamespace(
        x=batch.x[rows],
        pos=batch.pos[rows],
        lengths=sizes[first:last],
        num_nodes=rows.stop - rows.start,
        shapes=None if shapes is None else shapes[first:last],
    )


def clip(
    vocab_size: int,
    num_features: int,
    *,
    dim: int = 96,
    depth: int = 3,
    num_heads: int = 4,
    text_dim: int | None = None,
    text_depth: int = 2,
    embedding_dim: int = 128,
    pool: Literal["class", "mean"] = "mean",
    stem: Literal["linear", "convolutional"] = "convolutional",
    positions: Literal["axial", "learned", "sincos"] = "sincos",
    shape: tuple[int, int] | None = None,
    patch_size: int | None = None,
    max_length: int = 77,
    dropout: float = 0.0,
    image_adjacency: Pattern = Complete(),
) -> CLIP:
    """Two towers: a ViT of images, and a Transformer of texts read from their last token.

    Args:
        vocab_size: number of tokens.
        num_features: width of a flattened patch.
        dim, depth, num_heads, pool, stem, positions, shape, patch_size, dropout: of the images'
            tower, as in `vit`.
        text_dim, text_depth, max_length: of the texts' tower, for a causal adjacency.
        embedding_dim: width C of the vectors.
        image_adjacency: who attends to whom in an image.

    Returns:
        A model from images and texts to vectors [B, C] of both.

    Source: Radford et al., 2021.
    """
    check_pool(pool)
    encoder = ViT(
        patch_embedding(
            num_features,
            dim,
            positions=positions,
            shape=shape,
            stem=stem,
            patch_size=patch_size,
            dropout=dropout,
        ),
        Transformer(dim, depth, num_heads, dropout=dropout, attention_dropout=dropout),
        Head(dim, embedding_dim, pool="first" if pool == "class" else "mean", bias=False),
        tokens=int(pool == "class"),
    )
    width = dim if text_dim is None else text_dim
    trunk = text_trunk(
        vocab_size, width, text_depth, num_heads, max_length=max_length, dropout=dropout
    )
    reader = Model(*trunk, Head(width, embedding_dim, pool="last", bias=False))
    return CLIP(encoder, reader, image_adjacency=image_adjacency)


def text_batch(texts: Sequence[Sequence[int]], device: torch.device) -> Any:
    """Token ids of several texts, each with its end, as a batch."""
    sizes = tuple(map(len, texts))
    return SimpleNamespace(
        x=torch.tensor([token for text in texts for token in text], device=device),
        pos=torch.cat([torch.arange(size, device=device) for size in sizes]),
        lengths=sizes,
        num_nodes=sum(sizes),
    )
