"""The base of all models over an adjacency: the default adjacency, and the sequence of layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import Self

from graphformer.adjacency import Adjacency
from graphformer.patterns import AdjacencyLike, Learned, Pattern, PerLayer, resolve

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

Patterns = Pattern | Sequence[Pattern]
"""One pattern for all layers, or one for each."""


class NodeLayer(NamedTuple):
    """One layer of a model, `apply(x, adjacency, **edge_values)`: [N, C] -> [N, C']."""

    apply: Callable[..., Tensor]
    edge_values: dict[str, Tensor]
    """Keyword arguments with one row for each edge of the adjacency, [E, ...]."""


class LayerSequence(NamedTuple):
    """A forward pass as a sequence of layers, for evaluation layer by layer."""

    x: Tensor
    """Input of the first layer, [N, C]."""
    layers: list[NodeLayer]
    output: Callable[[list[Tensor]], Tensor]
    """From the outputs of all layers to that of the model."""
    is_local: bool
    """Whether the output of each layer at a node depends on the node and its sources only."""


class AdjacencyModel(nn.Module):
    """Base of models `model(batch, adjacency)`, with a default adjacency.

    A subclass implements `forward(batch, adjacency=None)`, which calls `resolve_adjacency`, and
    `depth`; it may implement `layer_sequence`.
    """

    adjacency: Pattern | None = None
    """The adjacency of calls without one; set by `with_adjacency`."""

    @property
    def depth(self) -> int:
        """The number of layers that may have an adjacency each."""
        raise NotImplementedError

    def with_adjacency(self, pattern: Patterns) -> Self:
        """Return a model with another default adjacency that shares the weights of this one.

        Training either model changes both; this model keeps its default adjacency.

        Args:
            pattern: the default adjacency, or one for each layer.

        Raises:
            ValueError: when the number of patterns is not the depth.
        """
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.adjacency = self.check_pattern(pattern)
        return other

    def check_pattern(self, pattern: Patterns) -> Pattern:
        """Return the pattern, several of them as one `PerLayer`.

        Raises:
            ValueError: when the number of patterns is not the depth.
        """
        if isinstance(pattern, Learned):
            pattern = pattern.pattern
        if isinstance(pattern, Pattern) and not isinstance(pattern, PerLayer):
            return pattern
        per_layer = pattern if isinstance(pattern, PerLayer) else PerLayer(tuple(pattern))
        if len(per_layer.patterns) != self.depth:
            raise ValueError(
                f"pattern: got {len(per_layer.patterns)} patterns, expected one, or one for each "
                f"of the {self.depth} layers"
            )
        return per_layer

    def resolve_adjacency(
        self, batch: BatchLike, adjacency: AdjacencyLike | None
    ) -> Adjacency | list[Adjacency]:
        """Return the adjacency of a call, or one for each layer; by default the model's own.

        Raises:
            ValueError: when neither the call nor the model has an adjacency.
            TypeError: when it is not `AdjacencyLike`.
        """
        adjacency = self.adjacency if adjacency is None else adjacency
        if adjacency is None:
            raise ValueError(
                "adjacency: got None, and the model has no default; pass a pattern such as "
                "graphformer.patterns.Complete(), or set a default by model.with_adjacency(pattern)"
            )
        return resolve(adjacency, batch)

    def resolve_single_adjacency(
        self, batch: BatchLike, adjacency: AdjacencyLike | None
    ) -> Adjacency:
        """Return the adjacency of a call to a model whose layers share one.

        Raises:
            ValueError: when there is none, or one for each layer.
            TypeError: when it is not `AdjacencyLike`.
        """
        resolved = self.resolve_adjacency(batch, adjacency)
        if isinstance(resolved, Adjacency):
            return resolved
        if len(resolved) != 1:
            raise ValueError(
                f"adjacency: got {len(resolved)}, one for each layer, expected a single one for "
                f"{type(self).__name__}"
            )
        return resolved[0]

    def layer_sequence(self, batch: BatchLike, adjacency: Adjacency) -> LayerSequence:
        """Return the forward pass over one adjacency as a sequence of layers.

        By default the whole model is one layer.
        """

        def apply(x: Tensor, adjacency: Adjacency) -> Any:
            return self(batch, adjacency)

        x = batch.x
        return LayerSequence(x, [NodeLayer(apply, {})], lambda states: states[-1], is_local=False)
