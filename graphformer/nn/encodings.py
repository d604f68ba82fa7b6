"""Names of the structural encodings of graphs, and the embedding of nodes that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graphformer.nn.dropout import Dropout
from graphformer.patterns import lengths
from graphformer.patterns.fields import require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

NAMES = ("laplacian", "random_walk", "degree", "shortest_path", "virtual_node")


def parse_encodings(encodings: Sequence[str] | None) -> dict[str, int]:
    """Return the number of each encoding by its name: `["laplacian:8"]` -> `{"laplacian": 8}`.

    Encodings are `laplacian:k` (k eigenvectors), `random_walk:k` (k steps), `degree:d` (in- and
    out-degree up to d), `shortest_path:d` (distances up to d) and `virtual_node` (its number is 1).

    Raises:
        ValueError: when a name is unknown or repeated, or a number is not a positive integer.
    """
    numbers: dict[str, int] = {}
    for text in encodings or ():
        name, _, number = str(text).partition(":")
        if name not in NAMES:
            raise ValueError(f"encodings: got {name!r}, expected one of {', '.join(NAMES)}")
        if name in numbers:
            raise ValueError(f"encodings: got {name!r} twice, expected each name once")
        if name == "virtual_node":
            number = number or "1"
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(
                f"encodings: got {text!r}, expected a number above 0, such as '{name}:8'"
            )
        if name == "virtual_node" and number != "1":
            raise ValueError(f"encodings: got {text!r}, expected one virtual node per graph")
        numbers[name] = int(number)
    return numbers


class GraphEmbedding(nn.Module):
    """The nodes of graphs as [N, C]: their features plus embeddings of structural encodings.

    Args:
        num_features: width F of `batch.x`.
        dim: width C.
        encodings: as in the data, see `parse_encodings`. `laplacian:k` reads `batch.laplacian_pe`
            [N, k], with random signs in training; `random_walk:k` reads `batch.random_walk_pe`
            [N, k]; `degree:d` reads `batch.in_degree` and `batch.out_degree` [N]; `virtual_node`
            adds a vector to the nodes in `batch.virtual_mask`. Encodings of edges are ignored.
        num_node_types: number of types in `batch.node_type` [N]; 0 for a single type.
        activation: a nonlinearity after the map of the features.
        dropout: probability of dropping a unit of the sum.

    Source: Dwivedi et al., 2022, "Benchmarking graph neural networks", section 4 (eigenvectors
    and signs); 2022, "Learnable structural and positional representations" (random walks); Ying
    et al., 2021, section 3.1.1 (degrees).
    """

    def __init__(
        self,
        num_features: int,
        dim: int,
        *,
        encodings: Sequence[str] | None = None,
        num_node_types: int = 0,
        activation: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        numbers = parse_encodings(encodings)
        self.features = nn.Linear(num_features, dim)
        self.activation = nn.Identity() if activation is None else activation
        self.laplacian = _linear(numbers.get("laplacian"), dim)
        self.random_walk = _linear(numbers.get("random_walk"), dim)
        degrees = numbers.get("degree")
        self.in_degree = None if degrees is None else nn.Embedding(degrees + 1, dim)
        self.out_degree = None if degrees is None else nn.Embedding(degrees + 1, dim)
        self.types = nn.Embedding(num_node_types, dim) if num_node_types else None
        virtual = "virtual_node" in numbers
        self.virtual_node = nn.Parameter(torch.zeros(dim)) if virtual else None
        self.dropout = Dropout(dropout)

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding of a batch's nodes, [N, C].

        Raises:
            ValueError: when a field is absent or has another width than the model.
            IndexError: when a node type is out of range.
        """
        x = self.activation(self.features(node_features(batch, self.features.in_features)))
        if self.laplacian is not None:
            vectors = self._encoding(batch, "laplacian", self.laplacian.in_features)
            x = x + self.laplacian(_with_random_signs(vectors, batch) if self.training else vectors)
        if self.random_walk is not None:
            x = x + self.random_walk(
                self._encoding(batch, "random_walk", self.random_walk.in_features)
            )
        for name, table in (("in_degree", self.in_degree), ("out_degree", self.out_degree)):
            if table is not None:
                number = table.num_embeddings - 1
                reason = f"add the encoding 'degree:{number}' to the data"
                degree = require_tensor(batch, name, reason)
                x = x + table(degree.clamp(max=number))
        if self.types is not None:
            x = x + self._type_embedding(batch, self.types)
        if self.virtual_node is not None:
            reason = "add the encoding 'virtual_node' to the data"
            mask = require_tensor(batch, "virtual_mask", reason)
            x = x + mask.unsqueeze(1).to(x.dtype) * self.virtual_node
        return self.dropout(x)

    def _type_embedding(self, batch: BatchLike, table: nn.Embedding) -> Tensor:
        types = require_tensor(batch, "node_type", "the model has types of nodes")
        try:
            return table(types)
        except IndexError:
            raise IndexError(
                f"batch.node_type: got a type {int(types.max())}, expected types below "
                f"{table.num_embeddings}, as the model was built for num_node_types="
                f"{table.num_embeddings}"
            ) from None

    def _encoding(self, batch: BatchLike, name: str, width: int) -> Tensor:
        """Return `batch.NAME_pe`, [N, width], in the dtype of the weights."""
        field = f"{name}_pe"
        values = require_tensor(batch, field, f"add the encoding '{name}:{width}' to the data")
        if values.shape[-1] != width:
            raise ValueError(
                f"batch.{field}: got {values.shape[-1]} columns, expected {width}; use the same "
                "encodings in data and model"
            )
        return values.to(self.features.weight.dtype)


def node_features(batch: BatchLike, width: int) -> Tensor:
    """Return `batch.x`, floats [N, F].

    Args:
        batch: one or several graphs.
        width: F of the model.

    Raises:
        ValueError: when it is absent, has another width, or holds integers.
    """
    x = require_tensor(batch, "x", "the model reads node features")
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(
            f"batch.x: got shape {tuple(x.shape)}, expected [N, {width}], as the model was built "
            f"for num_features={width}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"batch.x: got {x.dtype}, expected floats; cast it, or encode categories as one-hot"
        )
    return x


def _linear(width: int | None, dim: int) -> nn.Linear | None:
    return None if width is None else nn.Linear(width, dim)


def _with_random_signs(vectors: Tensor, batch: BatchLike) -> Tensor:
    """Return eigenvectors [N, k], each with a random sign per sample, for signs are arbitrary."""
    sizes = torch.tensor(lengths(batch), device=vectors.device)
    signs = torch.randint(2, (len(sizes), vectors.shape[1]), device=vectors.device) * 2 - 1
    return vectors * signs.to(vectors.dtype).repeat_interleave(sizes, 0, output_size=len(vectors))
