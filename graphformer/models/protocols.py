"""What generation and text embedding require of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from graphformer.nn import Transformer


class CachedModel(Protocol):
    """A model that decodes with a key-value cache: `head(transformer(embedding(batch), ...))`."""

    embedding: nn.Module
    transformer: Transformer
    head: nn.Module | None

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights; the device of the first one is that of the tokens."""
        ...


class TextEncoder(Protocol):
    """A model with a tokenizer and a pooling head, from texts to vectors [B, C]."""

    embedding: nn.Module
    head: nn.Module | None
    tokenizer: Any
    prompt: str

    def __call__(self, batch: Any) -> Tensor:
        """Vectors [B, C] of a packed batch."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights; the device of the first one is that of the tokens."""
        ...
