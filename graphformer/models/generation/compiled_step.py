"""The step of one token on a CPU as one compiled call, for decoders of the usual blocks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models.generation.modes import WeightDtype, rounded_weight
from graphformer.nn import Block, KVCache, MultiHeadAttention, Transformer
from graphformer.nn.dropout import Dropout
from graphformer.nn.feedforward import FeedForward, GatedFeedForward, QuickGELU
from graphformer.nn.linear import is_plain
from graphformer.nn.norm import RMSNorm
from graphformer.nn.positions.rotary import Rotary
from graphformer.ops.cpu.decoding import fields as f

if TYPE_CHECKING:
    from graphformer.models.protocols import CachedModel

Value: TypeAlias = Tensor | float | int | None
Row: TypeAlias = dict[int, Value]
_LANES = 16


class _UnsupportedError(Exception):
    """A part of a model that the compiled step does not compute."""


def compiled_step(model: CachedModel, weight_dtype: WeightDtype) -> CompiledStep | None:
    """Return the compiled step of a model in float32 on a CPU; None if it has other parts.

    Supported are pre-norm blocks in sequence, of `MultiHeadAttention` and a plain or gated
    feed-forward net, LayerNorm or RMSNorm, without positions in attention or with `Rotary`, and
    with widths that are multiples of 16. Modules must be exactly of these classes and have no
    hooks: adapters, pruning and whatever else changes a module is called as it is.
    """
    transformer = model.transformer
    try:
        _check(transformer, Transformer)
        rows = [_block(block, weight_dtype == "bfloat16") for block in transformer.blocks]
        _check_positions(transformer.position_encoding)
    except _UnsupportedError:
        return None
    return CompiledStep(transformer, rows, half=weight_dtype == "bfloat16")


class CompiledStep:
    """Passes one token through the blocks of a Transformer.

    Args:
        transformer: its final norm and its positions are used.
        rows: one row of the argument table per block.
        half: whether the weights in the rows are bfloat16.
    """

    def __init__(self, transformer: Transformer, rows: Sequence[Row], *, half: bool) -> None:
        self.transformer, self.rows, self.half = transformer, rows, half
        self.table = np.zeros((len(rows), f.NUM_FIELDS), np.int64)
        for number, row in enumerate(rows):
            for field, value in row.items():
                self.table[number, field] = _entry(value)

    def supports(self, caches: Sequence[object]) -> bool:
        """Whether the caches are filled and those of one text that attends to its last nodes."""
        from graphformer.ops.cpu.decoding.step import is_available

        return is_available() and all(
            type(cache) is KVCache and [group.count for group in cache.groups] == [1]
            for cache in caches
        )

    def __call__(
        self, x: Tensor, positions: Tensor, adjacency: Adjacency, caches: Sequence[KVCache]
    ) -> Tensor:
        """Return what `transformer(x, adjacency, positions, cache=caches)` does, [1, C].

        Args:
            x: the token, [1, C].
            positions: [1].
            adjacency: 1 x 1.
            caches: one per block, that this step `supports`.
        """
        from graphformer.ops.cpu.decoding.step import run

        x = x.clone()
        encoded = self.transformer.encoded_positions(positions, [adjacency] * len(self.rows))
        for row, options, cache in zip(self.table, encoded, caches, strict=True):
            rotary = options.get("rotary")
            if rotary is not None:
                cos, sin = rotary
                row[f.COS], row[f.SIN], row[f.ROTARY_WIDTH] = *_addresses(cos, sin), cos.shape[-1]
            keys, values, row[f.FIRST], row[f.SLOT] = cache.reserve()
            row[f.KEYS], row[f.VALUES] = _addresses(keys, values)
            row[f.CAPACITY] = keys.shape[1]
        run(self.table, x, half=self.half)
        return self.transformer.norm(x)


def _addresses(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _entry(value: Value) -> int:
    """Return the table's int64 for a value: an address, the bits of a float64, or an integer."""
    if value is None:
        return 0
    if isinstance(value, Tensor):
        return value.data_ptr()
    bits: int = struct.unpack("q", struct.pack("d", value))[0]
    return bits if isinstance(value, float) else value


def _check(module: nn.Module | None, *kinds: type[nn.Module]) -> None:
    if module is None or not any(is_plain(module, kind) for kind in kinds):
        raise _UnsupportedError
    if "forward" in module.__dict__:
        raise _UnsupportedError


def _check_positions(encoding: nn.Module | None) -> None:
    if encoding is None:
        return
    for module in encoding if isinstance(encoding, nn.ModuleList) else [encoding]:
        _check(module, Rotary)


def _block(block: nn.Module, half: bool) -> Row:
    """Return the row of a block, without what changes from token to token."""
    _check(block, Block)
    assert isinstance(block, Block)
    if block.layout != "sequential" or not block.norm_first:
        raise _UnsupportedError
    _check(block.dropout, Dropout)
    norms = (block.norm1, f.NORM1_WEIGHT), (block.norm2, f.NORM2_WEIGHT)
    row = _attention(block.attention, half) | _feed_forward(block.mlp, half)
    for norm, first in norms:
        row |= _norm(norm, first)
    return row


def _norm(norm: nn.Module | None, first: int) -> Row:
    _check(norm, nn.LayerNorm, nn.RMSNorm, RMSNorm)
    assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
    eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    bias = getattr(norm, "bias", None)
    values = _vector(norm.weight), _vector(bias), int(isinstance(norm, nn.LayerNorm)), float(eps)
    return dict(enumerate(values, first))


def _attention(attention: nn.Module, half: bool) -> Row:
    _check(attention, MultiHeadAttention)
    assert isinstance(attention, MultiHeadAttention)
    heads, kv_heads, _ = attention.heads
    head_dim, softcap = attention.head_dim, attention.softcap
    if not hasattr(attention, "qkv") or softcap is not None or head_dim % _LANES:
        raise _UnsupportedError
    scale = head_dim**-0.5 if attention.scale is None else attention.scale
    row: Row = {f.HEADS: heads, f.KV_HEADS: kv_heads, f.HEAD_DIM: head_dim, f.SCALE: float(scale)}
    row |= _linear(attention.qkv, half, f.QKV_WEIGHT) | _linear(attention.out, half, f.OUT_WEIGHT)
    row[f.DIM] = attention.qkv.in_features
    for norm, weight, eps in (
        (attention.q_norm, f.Q_NORM_WEIGHT, f.Q_NORM_EPS),
        (attention.k_norm, f.K_NORM_WEIGHT, f.K_NORM_EPS),
    ):
        if norm is not None:
            own = _norm(norm, 0)
            if own[0] is None or own[1] is not None or own[2]:
                raise _UnsupportedError
            row |= {weight: own[0], eps: own[3]}
    return row


def _feed_forward(net: nn.Module, half: bool) -> Row:
    _check(net, FeedForward, GatedFeedForward)
    parts: tuple[nn.Module, ...]
    if gated := isinstance(net, GatedFeedForward):
        parts = net.gate_up, net.activation, net.dropout, net.out
    else:
        assert isinstance(net, FeedForward)
        parts = tuple(net)
    up, activation, dropout, down = parts
    _check(dropout, Dropout)
    row = _linear(up, half, f.UP_WEIGHT) | _linear(down, half, f.DOWN_WEIGHT)
    assert isinstance(down, nn.Linear)
    return row | {
        f.HIDDEN: down.in_features,
        f.GATED: int(gated),
        f.ACTIVATION: f.ACTIVATIONS.index(_activation(activation)),
    }


def _activation(module: nn.Module) -> str:
    _check(module, nn.ReLU, nn.SiLU, nn.GELU, QuickGELU)
    if isinstance(module, nn.GELU):
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    return {nn.ReLU: "relu", nn.SiLU: "silu", QuickGELU: "quick_gelu"}[type(module)]


def _linear(linear: nn.Module, half: bool, first: int) -> Row:
    """Return the weight and the bias of a map of whole vectors, for the fields from `first`."""
    _check(linear, nn.Linear)
    assert isinstance(linear, nn.Linear)
    if linear.in_features % _LANES or linear.out_features % _LANES:
        raise _UnsupportedError
    weight = _vector(linear.weight)
    assert weight is not None
    return {first: rounded_weight(weight) if half else weight, first + 1: _vector(linear.bias)}


def _vector(parameter: Tensor | None) -> Tensor | None:
    """Return a parameter that can be read as it lies in memory."""
    if parameter is None:
        return None
    supported = parameter.dtype is torch.float32 and parameter.device.type == "cpu"
    if not (supported and parameter.is_contiguous()):
        raise _UnsupportedError
    return parameter
