"""Decoders of a text and the codes of an image after it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.multimodal.image_codes import CODE, append_codes
from graphformer.models.generation import eval_mode
from graphformer.models.model import Model
from graphformer.models.text.trunk import text_trunk, token_embedding
from graphformer.nn import Head
from graphformer.patterns import AdjacencyLike, lengths, resolve_single
from graphformer.patterns.fields import require_field, require_tensor
from graphformer.recorded import recorded


class CodeTokens(nn.Module):
    """The embedding of texts and codes of images, [N, C]: codes also have their row and column.

    Args:
        features: the embedding of tokens and codes, of width C.
        max_side: largest number of rows or columns of an image.
    """

    def __init__(self, features: nn.Embedding, max_side: int) -> None:
        super().__init__()
        self.features = features
        self.rows = nn.Embedding(max_side, features.embedding_dim)
        self.columns = nn.Embedding(max_side, features.embedding_dim)

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding of a batch of `data.append_codes`.

        Raises:
            ValueError: when an image has more rows or columns than `max_side`.
        """
        x = self.features(batch.x)
        types = require_tensor(batch, "node_type", "CodeTokens tells codes from tokens by it")
        shapes = require_field(batch, "shapes", "CodeTokens adds rows and columns of codes")
        side = max(map(max, shapes), default=0)
        if side > self.rows.num_embeddings:
            raise ValueError(
                f"shapes: got an image of {side} rows or columns, expected at most "
                f"{self.rows.num_embeddings}; build the model with a larger max_side"
            )
        row, column = _cells(tuple(map(tuple, shapes)), x.device)
        places = (self.rows(row) + self.columns(column)).to(x.dtype)
        return x.masked_scatter((types == CODE).unsqueeze(1), x[types == CODE] + places)


@lru_cache(maxsize=64)
def _cells(shapes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The row and the column of each cell of images, int64, image by image."""
    cells = [torch.cartesian_prod(torch.arange(r), torch.arange(c)) for r, c in shapes]
    places = torch.cat([torch.empty(0, 2, dtype=torch.int64), *cells]).to(device)
    return places[:, 0], places[:, 1]


class TextToImageModel(Model):
    """A decoder of texts followed by the codes of an image; `dalle` builds it.

    Batches are those of `data.append_codes`. The arguments are those of `Model`.

    Attributes:
        vocab_size: number of tokens of the texts, V; code k has the id V + k.
        num_codes: number of codes, K.
    """

    vocab_size: int
    num_codes: int

    @torch.no_grad()
    def sample_codes(
        self,
        texts: BatchLike,
        shape: tuple[int, int],
        adjacency: AdjacencyLike | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """Return the codes of an image for each text, [B, rows * columns], row by row.

        Each code is drawn given the text and the codes before it. The model runs over all cells for
        each code, so that any adjacency without edges to later codes can be used.

        Args:
            texts: B texts, such as of `data.pack_tokens`.
            shape: rows and columns of the images.
            adjacency: a pattern or an adjacency of texts and codes; the model's own by default.
            temperature: divides the logits; 0 takes the likeliest code.
            seed: of the random numbers.

        Raises:
            ValueError: when the temperature is negative.
        """
        if not temperature >= 0:
            raise ValueError(f"temperature: got {temperature}, expected 0 or more")
        sizes, count = lengths(texts), shape[0] * shape[1]
        batch = self._blank(texts, shape)
        pattern = self.adjacency if adjacency is None else adjacency
        edges = None if pattern is None else resolve_single(pattern, batch)
        first = (torch.tensor(sizes) + count).cumsum(0).to(batch.x.device) - count
        generator = torch.Generator(batch.x.device).manual_seed(seed)
        with eval_mode(self):
            for cell in range(count):
                logits = self(batch, edges)[first + cell - 1]  # of the node before each cell
                batch.x[first + cell] = self.vocab_size + _draw(logits, temperature, generator)
        cells = first.unsqueeze(1) + torch.arange(count, device=first.device)
        return batch.x[cells] - self.vocab_size

    def _blank(self, texts: BatchLike, shape: tuple[int, int]) -> Batch:
        """Return the batch of the texts and images of code 0."""
        shapes = (shape,) * len(lengths(texts))
        codes = torch.zeros(len(shapes) * shape[0] * shape[1], dtype=torch.int64)
        return append_codes(texts, codes.to(texts.x.device), shapes, vocab_size=self.vocab_size)


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a code for each row of logits [B, K], int64 [B]."""
    if temperature == 0:
        return logits.argmax(-1)
    weights = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(weights, 1, generator=generator).squeeze(1)


@recorded
def dalle(
    vocab_size: int,
    *,
    num_codes: int = 128,
    max_side: int = 32,
    dim: int = 96,
    depth: int = 4,
    num_heads: int = 4,
    dropout: float = 0.0,
) -> TextToImageModel:
    """Build a decoder of a text and the codes of an image after it, as DALL-E.

    With the pattern `Causal` each code attends to the text and to all codes before. With
    `Within(0, Causal()) | Between(target=1, source=0) | Within(1, ...)` it attends to the text and
    to the codes before in its row, its column or its neighbourhood, as in DALL-E's sparse blocks.
    Nodes have rotary positions in the sequence, and codes learned ones of their row and column.
    The text is not predicted.

    Args:
        vocab_size: number of tokens of the texts.
        num_codes: number of codes K, that of the `vq_autoencoder`.
        max_side: largest number of rows or columns of codes.
        dim, depth, num_heads, dropout: of the decoder.

    Returns:
        A model from the ids of `data.append_codes` to logits of the next code, [N, K].

    Source: Ramesh et al., 2021, "Zero-shot text-to-image generation", section 2.2 and appendix B.1.
    """
    tokens, transformer = text_trunk(
        vocab_size + num_codes, dim, depth, num_heads, positions="rotary", dropout=dropout
    )
    embedding = CodeTokens(token_embedding(tokens), max_side)
    model = TextToImageModel(embedding, transformer, Head(dim, num_codes))
    model.vocab_size, model.num_codes = vocab_size, num_codes
    return model
