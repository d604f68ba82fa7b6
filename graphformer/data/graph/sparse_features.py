"""A tensor subclass for features that are mostly zero, such as bags of words."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._pytree import tree_map


class SparseFeatures(Tensor):
    """Features [N, F] that behave as a dense tensor and store non-zero values only.

    Dropout draws random numbers for the stored values only, and `F.linear` (`nn.Linear`) multiplies
    only them; both equal the dense operation, as does indexing of rows. A training step of GAT on
    Cora, where 1.3 % of the features are not zero, is eight times faster. Any other operation
    converts to a dense tensor first.

    Args:
        dense: float [N, F].
    """

    stored: Tensor
    sparsity: Sparsity

    @staticmethod
    def __new__(cls, dense: Tensor) -> SparseFeatures:  # noqa: D102
        with warnings.catch_warnings():  # torch warns once that its CSR tensors are in beta
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            csr = dense.detach().to_sparse_csr()
        return _wrap(csr.values(), Sparsity(csr.crow_indices(), csr.col_indices(), dense.shape))

    def to_dense(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return an ordinary tensor [N, F], zeros included."""
        return self.sparsity.csr(self.stored).to_dense()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SparseFeatures({tuple(self.shape)}, {len(self.stored):,} stored values)"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return SparseFeatures, (self.to_dense(),)

    @classmethod
    @torch.compiler.disable(reason="operations on SparseFeatures run outside of compiled graphs")
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        sparse = _SPARSE_FUNCTIONS.get(function)
        if sparse is not None and isinstance(args[0], SparseFeatures):
            return sparse(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():  # the result is an ordinary tensor
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _COPIES:
            return _wrap(args[0].stored.clone(), args[0].sparsity)
        if func is torch.ops.aten._to_copy.default and set(kwargs or {}) == {"dtype"}:
            return _wrap(args[0].stored.to(kwargs["dtype"]), args[0].sparsity)
        return func(*tree_map(_dense, args), **tree_map(_dense, kwargs or {}))


_COPIES = {
    torch.ops.aten.clone.default,
    torch.ops.aten.detach.default,
    torch.ops.aten.alias.default,
}


class Sparsity:
    """The positions of the stored values, by row and, computed on first use, by column.

    Args:
        indptr: first stored value of each row, int64 [N + 1].
        indices: column of each stored value, int64.
        shape: (N, F).
    """

    def __init__(self, indptr: Tensor, indices: Tensor, shape: torch.Size) -> None:
        self.indptr, self.indices, self.shape = indptr, indices, shape
        self._by_column: tuple[Tensor, Tensor, Tensor] | None = None

    def csr(self, values: Tensor) -> Tensor:
        """Return a torch CSR tensor [N, F] with these values."""
        return _csr(self.indptr, self.indices, values, self.shape)

    def transposed(self, values: Tensor) -> Tensor:
        """Return a torch CSR tensor [F, N] with these values, for the backward pass."""
        if self._by_column is None:
            order = self.indices.argsort(stable=True)
            rows = torch.arange(self.shape[0]).repeat_interleave(self.indptr.diff())
            starts = torch.arange(self.shape[1] + 1)
            indptr = torch.searchsorted(self.indices[order], starts)
            self._by_column = indptr, rows[order], order
        indptr, rows, order = self._by_column
        return _csr(indptr, rows, values[order], self.shape[::-1])


class _Linear(torch.autograd.Function):
    """x W^T with a gradient for W only: features need none.

    Products of 16-bit values are computed in float32, because torch has no such sparse products on
    CPUs, and rounded to the dtype of the dense operation.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: SparseFeatures) -> Tensor:
        ctx.x, ctx.dtype = x, weight.dtype
        with torch.autocast(x.device.type, enabled=False):
            return x.sparsity.csr(_wide(x.stored)) @ _wide(weight).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.autocast(gradient.device.type, enabled=False):
            product = ctx.x.sparsity.transposed(_wide(ctx.x.stored)) @ _wide(gradient)
        return product.T.to(ctx.dtype), None


def _linear(input: SparseFeatures, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    device = input.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        input, weight = input.to(dtype), weight.to(dtype)  # type: ignore[assignment]
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = _Linear.apply(weight, input)
    out = out if bias is None else out + bias
    return out.to(input.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _dropout(
    input: SparseFeatures,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> SparseFeatures:
    if not training or p == 0:
        return input
    return _wrap(F.dropout(input.stored, p), input.sparsity)


def _wrap(values: Tensor, sparsity: Sparsity) -> SparseFeatures:
    features = Tensor._make_wrapper_subclass(
        SparseFeatures, sparsity.shape, dtype=values.dtype, device=values.device
    )
    features.stored, features.sparsity = values, sparsity
    return features


def _csr(indptr: Tensor, indices: Tensor, values: Tensor, shape: Any) -> Tensor:
    # The parts come from a valid tensor, so checks at every step would be wasted.
    return torch.sparse_csr_tensor(indptr, indices, values, tuple(shape), check_invariants=False)


def _dense(value: Any) -> Any:
    return value.to_dense() if isinstance(value, SparseFeatures) else value


def _rows(features: SparseFeatures, index: Any) -> Tensor:
    """Return rows of the features: sparse for an int64 index [n], else dense."""
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
        return features.to_dense()[index]
    sparsity = features.sparsity
    index = torch.where(index < 0, index + sparsity.shape[0], index)
    lengths = sparsity.indptr.diff()[index]
    indptr = F.pad(lengths.cumsum(0), (1, 0))
    shift = (sparsity.indptr[index] - indptr[:-1]).repeat_interleave(lengths)
    slots = torch.arange(int(indptr[-1]), device=index.device) + shift
    shape = torch.Size((len(index), sparsity.shape[1]))
    return _wrap(features.stored[slots], Sparsity(indptr, sparsity.indices[slots], shape))


_SPARSE_FUNCTIONS: dict[Any, Any] = {
    F.dropout: _dropout,
    F.linear: _linear,
    Tensor.__getitem__: _rows,
}
