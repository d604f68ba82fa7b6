"""The other direction: our attention, and any adjacency, in the models of `transformers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency, causal, complete, from_edge_index
from graphformer.ops import attention
from graphformer.patterns import Complete, Pattern

CARRIED = "_graphformer_edges"
"""Where what we give as a mask has its edges: `transformers` wants a tensor of four axes."""
REFUSED = ("softcap", "s_aux", "position_bias", "head_mask", "output_attentions", "cache")
"""Options of an attention that would change what it gives, and that ours does not have."""


@dataclass(frozen=True, eq=False)
class PaddedAdjacency:
    """Who attends to whom in a padded batch.

    Attributes:
        adjacency: over the rows that are named.
        targets: rows among the queries of all samples [B * Q]; None for all of them.
        sources: rows among their keys [B * K]; None for all of them.
    """

    adjacency: Adjacency
    targets: Tensor | None = None
    sources: Tensor | None = None


def register_with_transformers(
    pattern: Pattern | None = None, *, name: str = "graphformer"
) -> None:
    """Make our attention one that the models of `transformers` can be told to use.

    Afterwards `AutoModel.from_pretrained(..., attn_implementation="graphformer")` and
    `model.set_attn_implementation("graphformer")` know it. What the model itself masks (what comes
    later, padding, its windows) stays masked; of the rest a node attends to what the pattern says.
    Padding costs nothing, and its nodes get zeros.

    Args:
        pattern: who attends to whom, counted over a text without its padding; None for all.
        name: of the attention, for several patterns side by side; one that is there is replaced.

    Raises, when a model runs, ValueError for masks and options that our attention cannot express:
    none is passed over.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    pattern = None if isinstance(pattern, Complete) else pattern
    AttentionInterface.register(name, partial(_attend, pattern=pattern))
    AttentionMaskInterface.register(name, partial(_edges, pattern=pattern))


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
    """Queries [B, H, Q, D], keys and values [B, Hkv, K, D] -> [B, Q, H, Dv], as transformers asks.

    Models that make no mask give None, and say by `is_causal` what they mean.
    """
    refused = [n for n in REFUSED if options.get(n) is not None and options[n] is not False]
    if refused:
        raise ValueError(f"graphformer's attention has no {refused[0]}: use another one")
    count, _, rows, _ = query.shape
    columns = key.shape[2]
    edges = getattr(attention_mask, CARRIED, None)
    if attention_mask is None:
        wanted = getattr(module, "is_causal", True) if is_causal is None else is_causal
        edges = _rule(bool(wanted) and rows > 1, (count, rows, columns), None, 0, pattern)
    elif edges is None:
        edges = _of_mask(attention_mask, (count, rows, columns), pattern)
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    k, v = (x if edges.sources is None else x[edges.sources] for x in (k, v))
    q = q if edges.targets is None else q[edges.targets]
    out = attention(q, k, v, edges.adjacency, scale=scaling, dropout=dropout)
    assert isinstance(out, Tensor)
    if edges.targets is not None:
        out = out.new_zeros(count * rows, *out.shape[1:]).index_copy(0, edges.targets, out)
    return out.unflatten(0, (count, rows)), None


def _edges(
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
    """What takes the place of a mask, made once for all layers: empty, but for its edges."""
    from transformers import masking_utils as masks

    shape = batch_size, q_length, kv_length
    first, start = int(q_offset), int(kv_offset)
    rules = {masks.causal_mask_function: True, masks.bidirectional_mask_function: False}
    padding = masks.prepare_padding_mask(attention_mask, kv_length, start)
    device = options.get("device", "cpu" if padding is None else padding.device)
    mask = torch.empty(0, 0, 0, 0, dtype=torch.bool, device=device)
    if mask_function in rules and start == 0:
        edges = _rule(rules[mask_function], shape, padding, first, pattern, device=device)
        setattr(mask, CARRIED, edges)
        return mask
    dense = masks.sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=first,
        kv_offset=start,
        mask_function=mask_function,
        attention_mask=attention_mask,
        **{
            **options,
            "allow_is_causal_skip": False,
            "allow_is_bidirectional_skip": False,
            "allow_torch_fix": False,
        },
    )
    valid = None if padding is None else padding[:, start : start + kv_length].bool()
    setattr(mask, CARRIED, _of_mask(dense, shape, pattern, valid=valid, shift=first - start))
    return mask


def _rule(
    triangle: bool,
    shape: tuple[int, int, int],
    padding: Tensor | None,
    first: int,
    pattern: Pattern | None,
    *,
    device: Any = None,
) -> PaddedAdjacency:
    """The edges of a complete or causal mask: query i is key `first + i`."""
    count, rows, columns = shape
    if not triangle and rows != columns and pattern is not None:
        raise ValueError(
            f"the pattern {pattern} cannot be used from one text to another: register one with "
            "pattern=None for models that attend across"
        )
    last = first + rows if triangle else columns
    if padding is None:
        valid = torch.ones(count, columns, dtype=torch.bool, device=device)
    else:
        valid = padding[:, :columns].bool().clone()
    valid[:, last:] = False  # room of a cache that is not filled yet
    if pattern is not None:
        places = torch.arange(columns, device=valid.device)
        allowed = (lambda _, i, j: j <= first + i) if triangle else None
        return PaddedAdjacency(
            _chosen(pattern, valid, shape, first if triangle else 0, allowed, places)
        )
    if not triangle and rows != columns:
        asking = valid.new_ones(count, rows)
    else:
        asking = valid[:, first : first + rows] if triangle else valid
    lengths, source_lengths = asking.sum(1).tolist(), valid.sum(1).tolist()
    make = causal if triangle else complete
    adjacency = make(lengths, source_lengths).to(valid.device)
    whole = bool(asking.all()), bool(valid.all())
    targets = None if whole[0] else asking.flatten().nonzero().squeeze(1)
    sources = None if whole[1] else valid.flatten().nonzero().squeeze(1)
    return PaddedAdjacency(adjacency, targets, sources)


def _of_mask(
    mask: Tensor,
    shape: tuple[int, int, int],
    pattern: Pattern | None,
    *,
    valid: Tensor | None = None,
    shift: int | None = None,
) -> PaddedAdjacency:
    """The edges of a dense mask [B or 1, 1, Q, K], each of which is there or not.

    Raises ValueError for masks that add other numbers to the logits, or differ by head.
    """
    count, rows, columns = shape
    if mask.dtype != torch.bool:
        barred = mask <= torch.finfo(mask.dtype).min / 2
        if not bool((barred | (mask == 0)).all()):
            raise ValueError(
                "the mask adds numbers other than 0 and minus infinity to the logits, which "
                "graphformer's attention has no edges for: use another attention"
            )
        mask = ~barred
    mask = mask[..., :columns]
    if not bool((mask == mask[:, :1]).all()):
        raise ValueError("the mask differs by head, which graphformer's attention cannot express")
    if mask.shape[2:] != (rows, columns):
        raise ValueError(
            f"the mask must be {rows} x {columns}, as the queries and keys, got {list(mask.shape)}"
        )
    mask = mask[:, 0].expand(count, rows, columns)
    if pattern is None:
        sample, target, source = mask.nonzero().unbind(1)
        return PaddedAdjacency(_adjacency(sample, target, source, shape))
    valid = mask.any(1) if valid is None else valid
    places = torch.arange(columns, device=mask.device)
    first = columns - rows if shift is None else shift
    return PaddedAdjacency(
        _chosen(pattern, valid, shape, first, lambda b, i, j: mask[b, i, j], places)
    )


def _chosen(
    pattern: Pattern,
    valid: Tensor,
    shape: tuple[int, int, int],
    first: int,
    allowed: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    places: Tensor,
) -> Adjacency:
    """The edges of a pattern over the keys that are there, as far as they are allowed.

    Args:
        pattern: makes the edges of each text without its padding.
        valid: which keys there are, bool [B, K].
        shape: (B, Q, K).
        first: query i is key `first + i`.
        allowed: tells the edges of samples, queries and keys that the model permits.
        places: 0 to K - 1.
    """
    lengths = tuple(valid.sum(1).tolist())
    sample, key = valid.nonzero().unbind(1)
    pos = torch.cat([places[:length] for length in lengths])
    batch = SimpleNamespace(lengths=lengths, num_nodes=sum(lengths), pos=pos)
    source, target = pattern(batch).to(valid.device).edge_index
    sample, source, target = sample[target], key[source], key[target] - first
    kept = (target >= 0) & (target < shape[1])
    sample, source, target = sample[kept], source[kept], target[kept]
    if allowed is not None:
        kept = allowed(sample, target, source)
        sample, source, target = sample[kept], source[kept], target[kept]
    return _adjacency(sample, target, source, shape)


def _adjacency(
    sample: Tensor, target: Tensor, source: Tensor, shape: tuple[int, int, int]
) -> Adjacency:
    count, rows, columns = shape
    edges = torch.stack([sample * columns + source, sample * rows + target])
    return from_edge_index(edges, (count * rows, count * columns))
