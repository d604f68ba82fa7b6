"""Protocols: what generation and text embedding require of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn
from typing_extensions import TypeIs

from graphformer.nn import Transformer

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.data.text.tokenizer import Tokenizer


class Network(Protocol):
    """A network with parameters and submodules, such as any `nn.Module`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters; the first one's device is that of the batches."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over the network and its submodules, for their training modes."""
        ...


class TokenNetwork(Network, Protocol):
    """A network that maps a batch of token ids and an adjacency to logits, [N, K]."""

    def __call__(
        self,
        batch: BatchLike,
        adjacency: object,
        *,
        source: Tensor = ...,
        source_adjacency: object = ...,
    ) -> Tensor:
        """Return logits [N, K]; source [S, C'] and its adjacency are for encoder-decoders only."""
        ...


class CachedModel(TokenNetwork, Protocol):
    """A model whose blocks accept a key-value cache: head(transformer(embedding(batch), ...))."""

    @property
    def embedding(self) -> nn.Module:
        """Token ids to nodes [N, C], called with the batch."""
        ...

    @property
    def transformer(self) -> Transformer:
        """Nodes [N, C] to nodes [N, C], called with the adjacency, positions and the cache."""
        ...

    @property
    def head(self) -> nn.Module | None:
        """Nodes [N, C] to logits [N, K], called with the nodes and the batch."""
        ...


class TextEncoder(Network, Protocol):
    """A model with a tokenizer and a pooling head, from texts to vectors [B, C]."""

    @property
    def embedding(self) -> nn.Module:
        """Token ids to nodes [N, C], called with the batch."""
        ...

    @property
    def head(self) -> nn.Module | None:
        """Nodes [N, C] to vectors [B, C], called with the nodes and the batch."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Texts to token ids."""
        ...

    @property
    def prompt(self) -> str:
        """Text that precedes each text."""
        ...

    @property
    def prompts(self) -> dict[str, str]:
        """Named prompts, of which `encode` uses one if asked to."""
        ...

    @property
    def include_prompt(self) -> bool:
        """Whether the head pools the nodes of the prompt too."""
        ...

    def __call__(self, batch: BatchLike) -> Tensor:
        """Return vectors [B, C] of a packed batch, over the model's own adjacency."""
        ...


def is_cached_model(network: Network) -> TypeIs[CachedModel]:
    """Whether a network has a Transformer, whose blocks accept a key-value cache."""
    return hasattr(network, "transformer")


def pools_nodes(network: object) -> bool:
    """Whether a network's head reduces the nodes of each sample to one vector."""
    return getattr(getattr(network, "head", None), "pool", None) is not None
