"""Encodings of graphs by name, the same for data sets that make them and models that read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.nn.dropout import Dropout
from graphformer.patterns import lengths
from graphformer.patterns.fields import require_tensor

NAMES = ("laplacian", "random_walk", "degree", "shortest_path", "virtual_node")


def parse_encodings(encodings: Sequence[str] | None) -> dict[str, int]:
    """The number of each encoding, by its name: `["laplacian:8"]` -> `{"laplacian": 8}`.

    They are `laplacian:k` (k eigenvectors), `random_walk:k` (k steps), `degree:d` (in and out, up
    to d), `shortest_path:d` (distances up to d) and `virtual_node` (1, its only number).

    Raises ValueError for an unknown name, one that comes twice, and what is no positive number.
    """
    found: dict[str, int] = {}
    for text in encodings or ():
        name, _, number = str(text).partition(":")
        if name not in NAMES:
            raise ValueError(f"encodings: unknown name {name!r}; choose from {', '.join(NAMES)}")
        if name in found:
            raise ValueError(f"encodings: {name!r} comes twice; give it once")
        if name == "virtual_node":
            number = number or "1"
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"encodings: {text!r} needs a number above 0, such as '{name}:8'")
        if name == "virtual_node" and number != "1":
            raise ValueError(f"encodings: a graph gets one virtual node, got {text!r}")
        found[name] = int(number)
    return found


class GraphEmbedding(nn.Module):
    """The nodes of graphs as [N, C]: their features, plus what the encodings say of their place.

    Args:
        num_features: width F of `batch.x`.
        dim: width C.
        encodings: as in the data, by `parse_encodings`: `laplacian:k` reads `batch.laplacian_pe`
            [N, k], with random signs in training, `random_walk:k` `batch.random_walk_pe` [N, k],
            `degree:d` `batch.in_degree` and `batch.out_degree` [N], and `virtual_node` gives the
            nodes in `batch.virtual_mask` a vector of their own. Others are no matter of nodes.
        num_node_types: types of nodes in `batch.node_type` [N]; 0 for one type.
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

    def forward(self, batch: Any) -> Tensor:
        """Embed the nodes of a batch, [N, C]; ValueError for what it lacks."""
        x = self.activation(self.features(node_features(batch, self.features.in_features)))
        if self.laplacian is not None:
            vectors = self._read(batch, "laplacian_pe", "laplacian", self.laplacian.in_features)
            x = x + self.laplacian(_flipped(vectors, batch) if self.training else vectors)
        if self.random_walk is not None:
            width = self.random_walk.in_features
            x = x + self.random_walk(self._read(batch, "random_walk_pe", "random_walk", width))
        for name, table in (("in_degree", self.in_degree), ("out_degree", self.out_degree)):
            if table is not None:
                number = table.num_embeddings - 1
                degree = require_tensor(
                    batch, name, f"add the encoding 'degree:{number}' to the data"
                )
                x = x + table(degree.clamp(max=number))
        if self.types is not None:
            x = x + self._of_types(batch, self.types)
        if self.virtual_node is not None:
            mask = require_tensor(
                batch, "virtual_mask", "add the encoding 'virtual_node' to the data"
            )
            x = x + mask.unsqueeze(1).to(x.dtype) * self.virtual_node
        return self.dropout(x)

    def _of_types(self, batch: Any, table: nn.Embedding) -> Tensor:
        types = require_tensor(batch, "node_type", "the model has types of nodes")
        try:
            return table(types)
        except IndexError:
            raise IndexError(
                f"batch.node_type goes up to {int(types.max())}, but the model was built for "
                f"num_node_types={table.num_embeddings}"
            ) from None

    def _read(self, batch: Any, name: str, encoding: str, width: int) -> Tensor:
        values = require_tensor(batch, name, f"add the encoding '{encoding}:{width}' to the data")
        if values.shape[-1] != width:
            raise ValueError(
                f"batch.{name} has {values.shape[-1]} columns, the model wants {width}: give data "
                "and model the same encodings"
            )
        return values.to(self.features.weight.dtype)


def node_features(batch: Any, width: int) -> Tensor:
    """`batch.x`, [N, F]; ValueError where it is missing or has another width, or no floats.

    Args:
        batch: a graph, or several.
        width: F of the model.
    """
    x = require_tensor(batch, "x", "the model reads node features")
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(
            f"batch.x must be [N, {width}], as the model was built for num_features={width}, got "
            f"shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"batch.x must hold floats, got {x.dtype}: cast it, or make categories one-hot"
        )
    return x


def _linear(width: int | None, dim: int) -> nn.Linear | None:
    return None if width is None else nn.Linear(width, dim)


def _flipped(vectors: Tensor, batch: Any) -> Tensor:
    """Eigenvectors with random signs, one for each sample and vector: no sign is the right one."""
    sizes = torch.tensor(lengths(batch), device=vectors.device)
    signs = torch.randint(2, (len(sizes), vectors.shape[1]), device=vectors.device) * 2 - 1
    return vectors * signs.to(vectors.dtype).repeat_interleave(sizes, 0, output_size=len(vectors))
