"""Adjacencies made from content: their edges are selected from queries and keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, NoReturn, Protocol

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency


class Selection(Protocol):
    """A rule that selects the edges of each head from queries and keys."""

    @property
    def causal(self) -> bool:
        """Whether nodes attend to no later node of their sample."""
        ...

    def in_training(self) -> Selection:
        """Return the rule for a call through which gradients flow."""
        ...

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges, N x N, an adjacency with edges per head.

        Args:
            q: queries, [N, H, D].
            k: keys, [N, Hkv, D]; Hkv divides H.
            lengths: number of nodes of each sample; edges run within samples.
        """
        ...

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the last targets of one sample, bool [H, n - first, n].

        Args:
            q: queries of the sample, [n, H, D].
            k: keys, [n, Hkv, D].
            first: the first target.
        """
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ContentAdjacency(Adjacency):
    """Edges that attention selects from its queries and keys; `select` returns them.

    The edges differ between heads, and between the blocks of a model. They are selected anew in
    each call, without a gradient and without autocast: the gradient flows through the selected
    edges only.
    """

    per_head: ClassVar[bool] = True
    lengths: tuple[int, ...]
    """The number of nodes of each sample."""
    rule: Selection
    """Selects the edges."""
    on: torch.device = field(default=torch.device("cpu"))
    """The device of the edges."""

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """(targets N, sources N)."""
        return sum(self.lengths), sum(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self.on

    def to(self, device: torch.device | str) -> ContentAdjacency:
        """Return this adjacency on `device`."""
        return replace(self, on=torch.device(device))

    def select(self, q: Tensor, k: Tensor) -> Adjacency:
        """Return the edges that attention with these queries and keys has.

        Args:
            q: queries, [N, H, D].
            k: keys, [N, Hkv, D]; Hkv divides H.

        Raises:
            ValueError: when the number of queries or keys is not N.
        """
        if not q.shape[0] == k.shape[0] == self.shape[0]:
            raise ValueError(
                f"q, k: got {q.shape[0]} queries and {k.shape[0]} keys, expected {self.shape[0]} "
                "of both, the nodes of the samples; edges made from content run within samples"
            )
        has_gradient = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
        rule = self.rule.in_training() if has_gradient else self.rule
        with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
            return rule.select(q.detach(), k.detach(), self.lengths)

    @property
    def num_edges(self) -> int:
        """Refused: the number depends on queries and keys.

        Raises:
            ValueError: always.
        """
        self._refuse("a number of edges")

    def to_csr(self) -> NoReturn:
        """Refuse, as the edges depend on queries and keys.

        Raises:
            ValueError: always.
        """
        self._refuse("edges")

    def _contains(self, target: Tensor, source: Tensor) -> NoReturn:
        self._refuse("edges")

    @property
    def T(self) -> NoReturn:  # noqa: N802
        """Refused: the edges depend on queries and keys.

        Raises:
            ValueError: always.
        """
        self._refuse("a transpose")

    def with_self_loops(self) -> NoReturn:
        """Refuse, as the edges depend on queries and keys.

        Raises:
            ValueError: always.
        """
        self._refuse("self-loops to add")

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"adjacency: got {self.rule}, which has no {what} before attention has queries and "
            "keys, expected edges that do not depend on content; use adjacency.select(q, k)"
        )

    def __repr__(self) -> str:
        targets, sources = self.shape
        return f"{type(self).__name__}({targets} x {sources}, {self.rule})"
