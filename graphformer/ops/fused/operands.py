"""Arguments and results of the fused operators, and the interface of the drivers that run them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

DOT, ADDITIVE, GATV2 = range(3)
"""Kinds of scores: scale * q.k; leaky_relu(q + k) of width 1; vector . leaky_relu(q + k)."""

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""out [M, H, Dv], z [M, H, F], log-sum-exp [M, H], weights [E, H]; z = sum_j p_ij e_ij.

z has no columns without edge features, weights no rows if they are not returned.
"""


class Inputs(NamedTuple):
    """The tensors of a call, in the order of the operators' schema; None for what is not in use."""

    q: Tensor
    """Queries [M, H, D]; target scores for additive scores, [M, H] or [M, H, 1] by backend."""
    k: Tensor
    """Keys [N, Hkv, D]; source scores for additive scores."""
    v: Tensor
    """Values [N, Hkv, Dv]."""
    vector: Tensor | None
    """The weight of GATv2's scores, [H, D]."""
    u: Tensor | None
    """Queries of the edge features, [M, H, F]."""
    edge: Tensor | None
    """Edge values in the caller's order: features [E, F] for dot products; a score [E, H] or a key
    [E, H, D], added inside the LeakyReLU, for additive scores and GATv2."""
    bias: Tensor | None
    edge_weight: Tensor | None
    indptr: Tensor
    indices: Tensor
    edge_ids: Tensor | None
    source_indptr: Tensor | None
    """With the next two, the edges by source, for the backward pass: see `CSR.by_source`."""
    source_targets: Tensor | None
    source_slots: Tensor | None
    seed: Tensor | None
    positions: Tensor | None
    """The position of each slot in arrays [E, H] in slot order, if it is not the slot; int [E']."""

    @property
    def by_source(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The edges by source (indptr, targets, slots); None if the backward pass computes it."""
        if self.source_indptr is None or self.source_targets is None or self.source_slots is None:
            return None
        return self.source_indptr, self.source_targets, self.source_slots


class Gradients(NamedTuple):
    """The gradients of the inputs that have one, in the order of `Inputs`; empty if not needed."""

    q: Tensor
    k: Tensor
    v: Tensor
    vector: Tensor
    u: Tensor
    edge: Tensor
    bias: Tensor
    edge_weight: Tensor
    """[E, H], even if the input is [E, 1]."""


class Settings(NamedTuple):
    """The scalars of a call."""

    kind: int
    scale: float
    slope: float
    dropout: float


class Cotangents(NamedTuple):
    """The gradients of the outputs, and what the backward pass needs of the forward pass."""

    dout: Tensor
    dz: Tensor | None
    dweights: Tensor | None
    out: Tensor | None
    """None for a backend that does not read it."""
    lse: Tensor


class EdgeGradients(NamedTuple):
    """Which gradients of edge values are needed."""

    edge: bool
    bias: bool
    edge_weight: bool


class Driver(Protocol):
    """A module that runs the kernels of a backend on plain tensors."""

    def forward(self, x: Inputs, settings: Settings, return_weights: bool) -> Outputs:
        """Return the outputs."""

    def backward(
        self, x: Inputs, settings: Settings, cotangents: Cotangents, needed: EdgeGradients
    ) -> Gradients:
        """Return the gradients of the inputs."""
