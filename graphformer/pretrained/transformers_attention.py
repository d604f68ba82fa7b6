"""`register_with_transformers`: our attention, over any pattern, in the models of `transformers`.

`transformers` calls a function that makes a mask once for all layers, and a function that computes
attention with it in each layer. The mask made here is an empty tensor, whose attribute holds the
adjacency of the padded batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency, causal, complete, from_edge_index
from graphformer.batch_type import Batch
from graphformer.data.batch import positions_in_samples
from graphformer.ops import attention
from graphformer.patterns import Complete, Pattern

ADJACENCY_ATTRIBUTE = "_graphformer_adjacency"
"""Attribute of a mask that holds its `PaddedAdjacency`."""
UNSUPPORTED = ("s_aux", "position_bias", "head_mask", "output_attentions", "cache")
"""Options of an attention function that would change the result, and that ours lacks."""

Shape: TypeAlias = tuple[int, int, int]
"""B samples, Q queries and K keys of a padded batch."""
Allowed: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Samples, queries and keys of edges to whether the model permits them, bool [E]."""


@dataclass(frozen=True, eq=False)
class PaddedAdjacency:
    """The adjacency of a padded batch.

    Attributes:
        adjacency: from selected keys to selected queries.
        targets: indices of the selected queries among those of all samples, [B * Q]; None for all.
        sources: indices of the selected keys among those of all samples, [B * K]; None for all.
    """

    adjacency: Adjacency
    targets: Tensor | None = None
    sources: Tensor | None = None


def register_with_transformers(
    pattern: Pattern | None = None, *, name: str = "graphformer"
) -> None:
    """Register our attention as an attention implementation of `transformers`.

    It is selected by `AutoModel.from_pretrained(..., attn_implementation="graphformer")` or
    `model.set_attn_implementation("graphformer")`. The model's own mask (causality, padding,
    windows) stays in force, and a node attends to those of its remaining nodes that the pattern
    has. Padding is not computed, and its outputs are zeros.

    When a model runs, ValueError is raised for masks and options that our attention lacks; none is
    ignored. Models that compute attention in their own code do not call it at all: see
    `report_attention`.

    Args:
        pattern: of each text without its padding; None for all nodes.
        name: of the implementation, to register several patterns; an existing one is replaced.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    pattern = None if isinstance(pattern, Complete) else pattern
    AttentionInterface.register(name, partial(_attend, pattern=pattern))
    AttentionMaskInterface.register(name, partial(_make_mask, pattern=pattern))


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    *,
    pattern: Pattern | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention with the signature that `transformers` calls.

    Queries [B, H, Q, D], keys and values [B, Hkv, K, D] -> [B, Q, H, Dv]. Models that make no mask
    pass None, and state causality by `is_causal`.
    """
    unsupported = [n for n in UNSUPPORTED if options.get(n) is not None and options[n] is not False]
    if unsupported:
        raise ValueError(
            f"{unsupported[0]}: got a value, expected none, as graphformer's attention lacks it; "
            "use another attn_implementation"
        )
    shape = (query.shape[0], query.shape[2], key.shape[2])
    padded = getattr(attention_mask, ADJACENCY_ATTRIBUTE, None)
    if attention_mask is None:
        stated = getattr(module, "is_causal", True) if is_causal is None else is_causal
        padded = _from_rule(bool(stated) and shape[1] > 1, shape, None, 0, pattern)
    elif padded is None:
        padded = _from_mask(attention_mask, shape, pattern)
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    k, v = (x if padded.sources is None else x[padded.sources] for x in (k, v))
    q = q if padded.targets is None else q[padded.targets]
    out = attention(
        q,
        k,
        v,
        padded.adjacency,
        scale=scaling,
        softcap=options.get("softcap"),
        dropout=dropout,
    )
    assert isinstance(out, Tensor)
    if padded.targets is not None:
        rows = shape[0] * shape[1]
        out = out.new_zeros(rows, *out.shape[1:]).index_copy(0, padded.targets, out)
    return out.unflatten(0, shape[:2]), None


def _make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    *,
    pattern: Pattern | None,
    **options: Any,
) -> Tensor:
    """Make the mask of all layers, with the signature that `transformers` calls.

    Complete and causal masks become rules; others are made dense by `transformers`, once.
    """
    from transformers import masking_utils as masks

    shape = batch_size, q_length, kv_length
    first_query, first_key = int(q_offset), int(kv_offset)
    rules = {masks.causal_mask_function: True, masks.bidirectional_mask_function: False}
    padding = masks.prepare_padding_mask(attention_mask, kv_length, first_key)
    device = options.get("device", "cpu" if padding is None else padding.device)
    mask = torch.empty(0, 0, 0, 0, dtype=torch.bool, device=device)
    if mask_function in rules and first_key == 0:
        is_causal = rules[mask_function]
        padded = _from_rule(is_causal, shape, padding, first_query, pattern, device=device)
    else:
        dense = masks.sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=first_query,
            kv_offset=first_key,
            mask_function=mask_function,
            attention_mask=attention_mask,
            **{
                **options,
                "allow_is_causal_skip": False,
                "allow_is_bidirectional_skip": False,
                "allow_torch_fix": False,
            },
        )
        is_key = None
        if padding is not None:
            is_key = padding[:, first_key : first_key + kv_length].bool()
        shift = first_query - first_key
        padded = _from_mask(dense, shape, pattern, is_key=is_key, shift=shift)
    setattr(mask, ADJACENCY_ATTRIBUTE, padded)
    return mask


def _from_rule(
    is_causal: bool,
    shape: Shape,
    padding: Tensor | None,
    shift: int,
    pattern: Pattern | None,
    *,
    device: torch.device | str | None = None,
) -> PaddedAdjacency:
    """Return the adjacency of a complete or causal mask, in which query i is key `shift + i`."""
    count, rows, columns = shape
    if not is_causal and rows != columns and pattern is not None:
        raise ValueError(
            f"pattern: got {pattern} in the cross-attention of {rows} queries to {columns} keys, "
            "expected None for models with cross-attention; register one with pattern=None"
        )
    if padding is None:
        is_key = torch.ones(count, columns, dtype=torch.bool, device=device)
    else:
        is_key = padding[:, :columns].bool().clone()
    # Keys from here on are slots of a static cache that are not filled yet.
    is_key[:, shift + rows if is_causal else columns :] = False
    if pattern is not None:
        allowed: Allowed | None = (lambda _, i, j: j <= shift + i) if is_causal else None
        first = shift if is_causal else 0
        return PaddedAdjacency(_from_pattern(pattern, is_key, shape, first, allowed))
    if not is_causal and rows != columns:  # cross-attention: the padding is that of the keys
        is_query = is_key.new_ones(count, rows)
    else:
        is_query = is_key[:, shift : shift + rows] if is_causal else is_key
    lengths, source_lengths = is_query.sum(1).tolist(), is_key.sum(1).tolist()
    rule = causal if is_causal else complete
    return PaddedAdjacency(
        rule(lengths, source_lengths).to(is_key.device),
        targets=None if bool(is_query.all()) else is_query.flatten().nonzero().squeeze(1),
        sources=None if bool(is_key.all()) else is_key.flatten().nonzero().squeeze(1),
    )


def _from_mask(
    mask: Tensor,
    shape: Shape,
    pattern: Pattern | None,
    *,
    is_key: Tensor | None = None,
    shift: int | None = None,
) -> PaddedAdjacency:
    """Return the adjacency of a dense mask [B or 1, 1, Q or 1, K], of booleans or 0 and -inf.

    Args:
        mask: the mask.
        shape: of the padded batch.
        pattern: of each text without its padding.
        is_key: which keys are not padding, bool [B, K]; by default those with an edge.
        shift: query i is key `shift + i`; by default the last query is the last key.

    Raises:
        ValueError: when the mask has other numbers, differs by head, or has another shape.
    """
    count, rows, columns = shape
    if mask.dtype != torch.bool:
        blocked = mask <= torch.finfo(mask.dtype).min / 2
        if not bool((blocked | (mask == 0)).all()):
            raise ValueError(
                "attention_mask: got numbers other than 0 and minus infinity, expected these or a "
                "boolean mask, as graphformer's attention has edges only; use another "
                "attn_implementation"
            )
        mask = ~blocked
    mask = mask[..., :columns]
    if not bool((mask == mask[:, :1]).all()):
        raise ValueError(
            "attention_mask: got one that differs by head, expected the same for all heads; use "
            "another attn_implementation"
        )
    if mask.shape[2] == 1:  # of the keys alone, as in LayoutLM
        mask = mask.expand(-1, -1, rows, -1)
    if mask.shape[2:] != (rows, columns):
        raise ValueError(
            f"attention_mask: got {list(mask.shape)}, expected {rows} queries x {columns} keys"
        )
    mask = mask[:, 0].expand(count, rows, columns)
    if pattern is None:
        sample, target, source = mask.nonzero().unbind(1)
        return PaddedAdjacency(_from_edges(sample, target, source, shape))
    is_key = mask.any(1) if is_key is None else is_key
    shift = columns - rows if shift is None else shift
    allowed: Allowed = lambda b, i, j: mask[b, i, j]  # noqa: E731
    return PaddedAdjacency(_from_pattern(pattern, is_key, shape, shift, allowed))


def _from_pattern(
    pattern: Pattern, is_key: Tensor, shape: Shape, shift: int, allowed: Allowed | None
) -> Adjacency:
    """Return the edges of a pattern between nodes that are not padding, as far as permitted.

    Args:
        pattern: of each text without its padding.
        is_key: which keys are not padding, bool [B, K].
        shape: of the padded batch.
        shift: query i is key `shift + i`.
        allowed: which edges the model permits; None for all.
    """
    lengths = tuple(is_key.sum(1).tolist())
    sample, key = is_key.nonzero().unbind(1)
    pos = torch.from_numpy(positions_in_samples(lengths)).to(is_key.device)
    batch = Batch(lengths=lengths, num_nodes=sum(lengths), pos=pos)
    source, target = pattern(batch).to(is_key.device).edge_index
    # From nodes of the unpadded texts to queries and keys of the padded batch.
    sample, source, target = sample[target], key[source], key[target] - shift
    kept = (target >= 0) & (target < shape[1])
    sample, source, target = sample[kept], source[kept], target[kept]
    if allowed is not None:
        kept = allowed(sample, target, source)
        sample, source, target = sample[kept], source[kept], target[kept]
    return _from_edges(sample, target, source, shape)


def _from_edges(sample: Tensor, target: Tensor, source: Tensor, shape: Shape) -> Adjacency:
    """Return the adjacency of edges within samples of the padded batch; all [E]."""
    count, rows, columns = shape
    edges = torch.stack([sample * columns + source, sample * rows + target])
    return from_edge_index(edges, (count * rows, count * columns))
