"""Attention by FlexAttention: bands, grids, documents and their unions, ragged without padding.

A rule becomes a `BlockMask`, which is cached per rule and lengths: the 128 x 128 blocks with edges,
counted from the rule without N^2 numbers, and a test of single edges for those that are not full.
Source: Dong et al., 2024, "Flex Attention", arXiv:2412.05496.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, Grid, Implicit
from graphformer.ops.common import AttentionOptions, finite_nodes
from graphformer.ops.offset_bias import OffsetBias

BLOCK = 128
MIN_WIDTH = 16
"""The smallest head width that FlexAttention's CUDA kernels support."""
APPLIES_OFFSET_BIAS = True
HAS_CUSTOM_OPERATORS = False
SUPPORTS_HEAD_EDGES = False


def unsupported_reason(
    adjacency: Adjacency, options: AttentionOptions, offset_bias: OffsetBias | None = None
) -> str | None:
    """Return why this backend cannot run a call, as a clause after "which"; None if it can."""
    if not rules_of(adjacency):
        return "needs a rule (complete, causal, window, grid, or a gf.union of them)"
    if options["bias"] is not None:
        return "cannot add a bias per edge (it can add an OffsetBias)"
    if options["edge_weight"] is not None:
        return "cannot multiply logits by edge_weight"
    if options["dropout"]:
        return "cannot drop attention weights"
    if options["return_weights"]:
        return "cannot return weights"
    if offset_bias is not None and any(
        x is not None and x.requires_grad for x in (offset_bias.table, offset_bias.slope)
    ):
        return "cannot compute reproducible gradients of an OffsetBias (its kernels use atomics)"
    return None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    offset_bias: OffsetBias | None = None,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, None]:
    """logit_ij = scale * (q_i . k_j) + offset_bias_ij.

    Raises:
        ValueError: when the backend does not support the call.
    """
    reason = unsupported_reason(adjacency, options, offset_bias) or _unsupported_inputs(q, k, v)
    if reason:
        raise ValueError(f"backend: got 'flex', which {reason}; choose another, or 'auto'")
    if not adjacency.num_edges:
        zero = sum(x[:0].sum() for x in (q, k, v))  # keeps the output in the autograd graph
        return v.new_zeros(len(q), q.shape[1], v.shape[2]) + zero, None
    invalid: Tensor | None = None
    if any(len(rule.blocks) > 1 for rule in rules_of(adjacency)):
        (q, invalid), (k, bad_keys), (v, bad_values) = map(finite_nodes, (q, k, v))
        invalid = invalid | _reached(bad_keys | bad_values, *rules_of(adjacency))
    out = _kernel(q.is_cuda)(
        *(x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)),
        score_mod=None if offset_bias is None else _score_mod(offset_bias, adjacency),
        block_mask=block_mask(*rules_of(adjacency)),
        scale=scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    out = out.squeeze(0).transpose(0, 1).to(v.dtype)  # autocast returns its own dtype
    return out if invalid is None else out.masked_fill(invalid[:, None, None], torch.nan), None


def _reached(invalid: Tensor, *rules: Implicit) -> Tensor:
    """Which targets have an invalid source in a sample of theirs, bool [M]."""
    reached = []
    for ends, samples in zip(*_samples(*rules), strict=True):
        count = torch.nn.functional.pad(invalid.cumsum(0), (1, 0))[ends].diff()
        reached.append((count > 0)[samples])
    return torch.stack(reached).any(0)


@torch.compiler.assume_constant_result
def _samples(*rules: Implicit) -> tuple[list[Tensor], list[Tensor]]:
    """For each rule, the borders of samples among sources, [B + 1], and each target's sample."""
    with _disable_current_modes(), torch.inference_mode(False):
        return _cached_samples(*rules)


@lru_cache(maxsize=32)
def _cached_samples(*rules: Implicit) -> tuple[list[Tensor], list[Tensor]]:
    borders, samples = [], []
    for rule in rules:
        ends = list(accumulate(rule.source_lengths, initial=0))
        borders.append(torch.tensor(ends, device=rule.device))
        lengths = torch.tensor(rule.lengths, dtype=torch.int64)
        sample = torch.arange(len(lengths)).repeat_interleave(lengths)
        samples.append(sample.to(rule.device))
    return borders, samples


def rules_of(adjacency: Adjacency) -> tuple[Implicit, ...]:
    """The rules whose union an adjacency is; empty for explicit edges."""
    if isinstance(adjacency, Implicit):
        return (adjacency,)
    parts = adjacency.parts
    if adjacency.is_union_of_parts and all(isinstance(part, Implicit) for part in parts):
        return tuple(part.to(adjacency.device) for part in parts)  # type: ignore[misc]
    return ()


def _unsupported_inputs(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why the tensors cannot be used; None if they can."""
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not q.is_cuda and needs_grad:
        return "trains on CUDA only, not on a CPU"
    width = min(q.shape[2], v.shape[2])
    if q.is_cuda and width < MIN_WIDTH:
        return f"needs heads of width {MIN_WIDTH} or more, not {width}"
    return None


def _kernel(on_cuda: bool) -> Callable[..., Any]:
    """FlexAttention, which is fused when compiled: here, or by a surrounding torch.compile."""
    if torch.compiler.is_compiling():
        return flex_attention
    return _compiled() if on_cuda else _unfused


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def _unfused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score_mod: Callable[..., Tensor] | None,
    block_mask: BlockMask,
    scale: float,
    enable_gqa: bool,
) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(
            q, k, v, score_mod, block_mask=block_mask, scale=scale, enable_gqa=enable_gqa
        )


# Masks ------------------------------------------------------------------------------------------


def block_mask(*rules: Implicit) -> BlockMask:
    """The BlockMask of a union of rules of one shape on one device, cached."""
    return _build_mask(*rules) if torch.compiler.is_compiling() else _cached_mask(*rules)


@torch.compiler.assume_constant_result
def fill(num_edges: int, *rules: Implicit) -> float:
    """The share of edges in the blocks that are computed for a union of rules, cached."""
    return _cached_fill(num_edges, *rules)


@lru_cache(maxsize=1024)
def _cached_fill(num_edges: int, *rules: Implicit) -> float:
    partial, full = (int(_tables(*rules)[table].sum()) for table in (0, 2))
    blocks = partial + full
    return num_edges / (blocks * BLOCK**2) if blocks else 0.0


def _build_mask(*rules: Implicit) -> BlockMask:
    # A traced function builds the mask from constant tensors; a mask itself cannot be a constant.
    tables = _tables(*rules)
    blocks, boxes = tables[:8], tables[8:]
    mods = [
        _mask_mod(isinstance(rule, Grid), *boxes[4 * i : 4 * i + 4]) for i, rule in enumerate(rules)
    ]
    options: dict[str, Any] = {"BLOCK_SIZE": (BLOCK, BLOCK), "mask_mod": _any_of(mods)}
    return BlockMask(rules[0].shape, *blocks, **options)


_cached_mask = lru_cache(maxsize=32)(_build_mask)


@torch.compiler.assume_constant_result
def _tables(*rules: Implicit) -> list[Tensor]:
    """The eight tensors of a BlockMask, then the four of each rule's boxes."""
    with _disable_current_modes(), torch.inference_mode(False):
        return _cached_tables(*rules)


@lru_cache(maxsize=32)
def _cached_tables(*rules: Implicit) -> list[Tensor]:
    boxes = [rule.boxes() for rule in rules]
    counts = [_block_counts(rules[0].shape, *box) for box in boxes]
    full = torch.stack([count == BLOCK**2 for count in counts]).any(0)
    partial = torch.stack([count > 0 for count in counts]).any(0) & ~full
    by_target = [table for blocks in (partial, full) for table in _block_lists(blocks)]
    by_source = [table for blocks in (partial, full) for table in _block_lists(blocks.T)]
    return [*by_target, *by_source, *(part.int() for box in boxes for part in box)]


def _block_counts(
    shape: tuple[int, int], first: Tensor, height: Tensor, width: Tensor, stride: Tensor
) -> Tensor:
    """The number of edges in each block, int64 [M / 128, N / 128] (rounded up), of a rule's boxes.

    A run of sources from b to e has max(x - b, 0) - max(x - e, 0) sources before the border x.
    Summed over the targets of a row of blocks, the first term is n x - s for the n runs that begin
    before x, at s in sum; cumulative sums over the borders give both.
    """
    targets, sources = shape
    rows, borders = -(-targets // BLOCK), -(-sources // BLOCK) + 1
    row = torch.arange(targets, device=first.device) // BLOCK * (borders + 1)
    number = torch.zeros(rows * (borders + 1), dtype=torch.int64, device=first.device)
    position = torch.zeros_like(number)
    for run in range(int(height.max()) if targets else 0):
        begin = (first + run * stride).clamp(max=sources)
        end = begin + width * (run < height)
        for place, sign in ((begin, 1), (end, -1)):
            border = row + place // BLOCK + 1  # the first after it, which may be one too many
            number.index_add_(0, border, torch.full_like(place, sign))
            position.index_add_(0, border, sign * place)
    number, position = (
        x.view(rows, borders + 1)[:, :borders].cumsum(1) for x in (number, position)
    )
    at = BLOCK * torch.arange(borders, device=first.device)
    return (at * number - position).diff(dim=1)


def _block_lists(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Per row of blocks: their number [1, 1, rows] and columns [1, 1, rows, columns], these first.

    The format of `BlockMask`, for blocks bool [rows, columns].
    """
    present = blocks.int().contiguous()[None, None]
    columns = present.argsort(dim=-1, descending=True, stable=True)
    return present.sum(-1).int(), columns.int().contiguous()


def _mask_mod(
    two_dimensional: bool, first: Tensor, height: Tensor, width: Tensor, stride: Tensor
) -> Callable[..., Tensor]:
    """FlexAttention's test whether an edge is in its target's box, of one run or several."""

    def in_run(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        distance = source - first[target]
        return (distance >= 0) & (distance < width[target])

    def in_box(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        distance, step = source - first[target], stride[target]
        row = distance // step
        column = distance - row * step
        return (distance >= 0) & (row < height[target]) & (column < width[target])

    return in_box if two_dimensional else in_run


def _any_of(mods: list[Callable[..., Tensor]]) -> Callable[..., Tensor]:
    if len(mods) == 1:
        return mods[0]

    def mask_mod(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        present = mods[0](b, h, target, source)
        for mod in mods[1:]:
            present = present | mod(b, h, target, source)
        return present

    return mask_mod


def _score_mod(offset_bias: OffsetBias, adjacency: Adjacency) -> Callable[..., Tensor]:
    """FlexAttention's function of one score: it adds the bias of the relative position."""
    targets, sources = offset_bias.positions_on(adjacency)
    table, slope, reach = offset_bias.table, offset_bias.slope, offset_bias.reach
    shared = table.shape[1] == 1

    def score_mod(score: Tensor, b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        offset = sources[source] - targets[target]
        head = h * 0 if shared else h
        score = score + table[offset.clamp(-reach, reach) + reach, head]
        if slope is not None:
            score = score - slope[head] * (offset.abs() - reach).clamp(min=0)
        return score

    return score_mod
