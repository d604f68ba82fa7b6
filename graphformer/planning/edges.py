"""Adjacencies without memory: the arrays that a step would store, as fake tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, Implicit
from graphformer.adjacency.csr import CSC
from graphformer.planning.tracing import ShapeTrace, to_fake


def shape_only(adjacency: Any, trace: ShapeTrace) -> Any:
    """Return an adjacency, or a list of them, whose arrays are fake and recorded by a trace.

    A rule stays a rule; its explicit edges and masks, which some backends use, are fake.
    """
    if isinstance(adjacency, list | tuple):
        return [shape_only(each, trace) for each in adjacency]
    if isinstance(adjacency, CSR):
        return _csr(adjacency, trace)
    if isinstance(adjacency, Implicit):
        return _rule(adjacency, trace)
    return adjacency


def _csr(edges: CSR, trace: ShapeTrace) -> CSR:
    """Return a CSR of fake arrays, in both orders."""
    fields = ("indptr", "indices", "edge_ids", "inverse_index")
    arrays = {name: to_fake(getattr(edges, name), trace.fake) for name in fields}
    changed: dict[str, Any] = {**arrays, "parts": ()}
    fake = replace(edges, **changed)
    _add_by_source(fake, trace)
    for array in arrays.values():
        if array is not None:
            trace.track(array, "adjacency")
    return fake


def _rule(rule: Implicit, trace: ShapeTrace) -> Implicit:
    """Return a copy of a rule whose explicit edges and masks are made when they are used."""
    copy: Implicit = object.__new__(_traced_class(type(rule)))
    copy.__dict__.update(rule.__getstate__(), _trace=trace)
    return copy


def _add_by_source(csr: CSR, trace: ShapeTrace) -> None:
    """Add the order of the backward pass, which a compiled sort makes without further memory."""
    sizes = csr.shape[1] + 1, csr.num_edges, csr.num_edges
    order = CSC(*(trace.empty((size,), csr.indices.dtype) for size in sizes))
    for array in order:
        trace.track(array, "adjacency")
    csr.__dict__["by_source"] = order


def _traced_class(kind: type[Implicit]) -> Any:
    """Return a subclass of a rule that makes its arrays under a trace."""

    class Traced(kind):  # type: ignore[valid-type, misc]
        """A rule with fake arrays."""

        _trace: ShapeTrace

        def _compute(self, name: str) -> Any:
            if name not in ("_csr", "dense_mask") or "_trace" not in self.__dict__:
                return super()._compute(name)
            values = self.__dict__.setdefault("_arrays", {})
            if name not in values:
                values[name] = self._edges() if name == "_csr" else self._mask()
            return values[name]

        def _edges(self) -> CSR:
            count = self.num_edges
            with self._trace.without_values():
                csr = kind._csr.compute(self)
            assert csr.num_edges == count
            for array in (csr.indptr, csr.indices, csr.target):
                self._trace.track(array, "adjacency")
            _add_by_source(csr, self._trace)
            return csr

        def _mask(self) -> Tensor:
            mask = self._trace.empty(self.shape, torch.bool)
            self._trace.track(mask, "adjacency")
            return mask

        def bucket_mask(self, number: int) -> Tensor:
            """Return the fake mask of a bucket, bool [m, n]."""
            masks = self.__dict__.setdefault("_masks", {})
            if number not in masks:
                masks[number] = self._trace.empty(self.buckets[number].shape, torch.bool)
                self._trace.track(masks[number], "adjacency")
            return masks[number]

    Traced.__name__ = kind.__name__
    return Traced


def edge_counts(adjacency: Any) -> list[int]:
    """Return the number of edges of each adjacency."""
    if isinstance(adjacency, Adjacency):
        return [adjacency.num_edges]
    return [each.num_edges for each in adjacency]
