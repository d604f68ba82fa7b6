"""Rules through FlexAttention: bands, grids, documents and their unions, ragged and unpadded.

A rule becomes a `BlockMask`, made once for the same rule and lengths: the blocks of 128 x 128 that
hold edges, found from the rule itself without N^2 numbers, and a test of single edges for those
that are not full. Source: Dong et al., 2024, "Flex Attention", arXiv:2412.05496.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, Grid, Implicit
from graphformer.ops.common import AttentionOptions
from graphformer.ops.offset_bias import OffsetBias

BLOCK = 128
NARROWEST = 16
"""The least head width that FlexAttention's kernels for CUDA take."""
_ROOM = 1 << 24  # numbers at once while blocks are counted


def unsupported_reason(
    adjacency: Adjacency, options: AttentionOptions, rule: OffsetBias | None = None
) -> str | None:
    """Say what this backend cannot do of what is asked; None if it can."""
    if not rules_of(adjacency):
        return "needs a rule (complete, causal, window, grid, or a gf.union of them)"
    if options["bias"] is not None:
        return "cannot add a bias by edge (a bias that is a rule it can)"
    if options["edge_weight"] is not None:
        return "cannot multiply logits by edge_weight"
    if options["dropout"]:
        return "cannot drop attention weights"
    if options["return_weights"]:
        return "cannot return weights"
    if rule is not None and any(
        x is not None and x.requires_grad for x in (rule.table, rule.slope)
    ):
        return "cannot repeat the gradient of a rule's table to the bit: its kernels use atomics"
    return None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    rule: OffsetBias | None = None,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, None]:
    """logit_ij = scale * (q_i . k_j), plus the bias of the rule."""
    refusal = unsupported_reason(adjacency, options, rule) or _unsupported_inputs(q, k, v)
    if refusal:
        raise ValueError(f"backend='flex' {refusal}; choose another backend, or 'auto'")
    if not adjacency.num_edges:
        nothing = sum(x[:0].sum() for x in (q, k, v))
        return v.new_zeros(len(q), q.shape[1], v.shape[2]) + nothing, None
    out = _kernel(q.is_cuda)(
        *(x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)),
        score_mod=None if rule is None else _score_mod(rule, adjacency),
        block_mask=block_mask(*rules_of(adjacency)),
        scale=scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    return out.squeeze(0).transpose(0, 1), None


def rules_of(adjacency: Adjacency) -> tuple[Implicit, ...]:
    """The rules that an adjacency is the union of; none if its edges are explicit."""
    if isinstance(adjacency, Implicit):
        return (adjacency,)
    parts = adjacency.parts
    if adjacency.is_union_of_parts and all(isinstance(part, Implicit) for part in parts):
        return tuple(part.to(adjacency.device) for part in parts)  # type: ignore[misc]
    return ()


def _unsupported_inputs(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not q.is_cuda and learning:
        return "trains on CUDA only, not on a CPU"
    narrow = min(q.shape[2], v.shape[2])
    if q.is_cuda and narrow < NARROWEST:
        return f"needs heads of width {NARROWEST} or more, got {narrow}"
    return None


def _kernel(on_cuda: bool) -> Callable[..., Any]:
    """FlexAttention: fused only when compiled, which a surrounding torch.compile does."""
    if torch.compiler.is_compiling():
        return flex_attention
    return _compiled() if on_cuda else _unfused


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def _unfused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(q, k, v, **options)


# Masks ------------------------------------------------------------------------------------------


def block_mask(*rules: Implicit) -> BlockMask:
    """The BlockMask of a union of rules of one shape on one device; made once and kept."""
    return _assembled(*rules) if torch.compiler.is_compiling() else _kept_mask(*rules)


@torch.compiler.assume_constant_result
def fill(num_edges: int, *rules: Implicit) -> float:
    """The share of edges in the blocks that are computed for a union of rules; kept."""
    return _kept_fill(num_edges, *rules)


@lru_cache(maxsize=1024)
def _kept_fill(num_edges: int, *rules: Implicit) -> float:
    partial, full = (int(_tables(*rules)[place].sum()) for place in (0, 2))
    blocks = partial + full
    return num_edges / (blocks * BLOCK**2) if blocks else 0.0


def _assembled(*rules: Implicit) -> BlockMask:
    # What is traced puts the mask together from constant tensors; it cannot take a mask as one.
    tables = _tables(*rules)
    blocks, boxes = tables[:8], tables[8:]
    mods = [
        _mask_mod(isinstance(rule, Grid), *boxes[4 * place : 4 * place + 4])
        for place, rule in enumerate(rules)
    ]
    options: dict[str, Any] = {"BLOCK_SIZE": (BLOCK, BLOCK), "mask_mod": _any_of(mods)}
    return BlockMask(rules[0].shape, *blocks, **options)


_kept_mask = lru_cache(maxsize=32)(_assembled)


@torch.compiler.assume_constant_result
def _tables(*rules: Implicit) -> list[Tensor]:
    """The eight tensors of a BlockMask, then each rule's boxes, four tensors."""
    with _disable_current_modes(), torch.inference_mode(False):
        return _made(*rules)


@lru_cache(maxsize=32)
def _made(*rules: Implicit) -> list[Tensor]:
    counts = [_block_counts(rule) for rule in rules]
    full = torch.stack([count == BLOCK**2 for count in counts]).any(0)
    partial = torch.stack([count > 0 for count in counts]).any(0) & ~full
    both = partial, full
    by_target = [part for blocks in both for part in _listed(blocks)]
    by_source = [part for blocks in both for part in _listed(blocks.T)]
    return [*by_target, *by_source, *(part.int() for rule in rules for part in rule.boxes())]


def _block_counts(rule: Implicit) -> Tensor:
    """The number of edges in each block, int64 [M / 128, N / 128], rounded up."""
    targets, sources = rule.shape
    first, height, width, stride = rule.boxes()
    borders = BLOCK * torch.arange(-(-sources // BLOCK) + 1, device=rule.device)
    counts = []
    rows = max(_ROOM // len(borders) // BLOCK, 1) * BLOCK
    for start in range(0, targets, rows):
        part = slice(start, start + rows)
        # A run's edges before each border of blocks; their differences lie in the blocks.
        before = torch.zeros(len(first[part]), len(borders), dtype=torch.int64, device=rule.device)
        for run in range(int(height.max()) if targets else 0):
            begin = first[part] + run * stride[part]
            length = width[part] * (run < height[part])
            passed = (borders - begin.unsqueeze(1)).clamp(min=0)
            before += torch.minimum(passed, length.unsqueeze(1))
        spare = -len(before) % BLOCK
        before = torch.nn.functional.pad(before, (0, 0, 0, spare))
        counts.append(before.diff(dim=1).unflatten(0, (-1, BLOCK)).sum(1))
    return torch.cat(counts) if counts else borders.new_zeros(0, len(borders) - 1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row of them has, [1, 1, rows], and which, these first."""
    chosen = blocks.int().contiguous()[None, None]
    which = chosen.argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1).int(), which.int().contiguous()


def _mask_mod(
    high: bool, first: Tensor, height: Tensor, width: Tensor, stride: Tensor
) -> Callable[..., Tensor]:
    """Whether an edge is in its target's box, as FlexAttention asks it; `high` if boxes may be."""

    def in_run(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        distance = source - first[target]
        return (distance >= 0) & (distance < width[target])

    def in_box(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        distance, step = source - first[target], stride[target]
        row = distance // step
        column = distance - row * step
        return (distance >= 0) & (row < height[target]) & (column < width[target])

    return in_box if high else in_run


def _any_of(mods: list[Callable[..., Tensor]]) -> Callable[..., Tensor]:
    if len(mods) == 1:
        return mods[0]

    def mask_mod(b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        present = mods[0](b, h, target, source)
        for mod in mods[1:]:
            present = present | mod(b, h, target, source)
        return present

    return mask_mod


def _score_mod(rule: OffsetBias, adjacency: Adjacency) -> Callable[..., Tensor]:
    """The bias of a relative position, added to each score."""
    targets, sources = rule._positions(adjacency)
    table, slope, reach = rule.table, rule.slope, rule.reach
    shared = table.shape[1] == 1

    def score_mod(score: Tensor, b: Tensor, h: Tensor, target: Tensor, source: Tensor) -> Tensor:
        offset = sources[source] - targets[target]
        head = h * 0 if shared else h
        score = score + table[offset.clamp(-reach, reach) + reach, head]
        if slope is not None:
            score = score - slope[head] * (offset.abs() - reach).clamp(min=0)
        return score

    return score_mod
