"""Key-value cache: keys and values of earlier nodes, for decoding a few nodes at a time."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, Selection
from graphformer.deprecated import renamed_attribute, renamed_keywords
from graphformer.ops import OffsetBias, attention
from graphformer.ops.backend import BackendName
from graphformer.ops.common import per_head, upcast


class KVCache:
    """The keys and values of one attention module, for B samples to which nodes are appended.

    The first call stores the keys and values of the prompts. Each later call appends the same
    number of nodes to every sample, which attend to all stored nodes of their sample up to
    themselves; `crop` removes the newest nodes again. Adjacent samples of equal length share one
    buffer, whose views are the inputs of dense attention: there is no padding, and no copy except
    when a buffer grows.

    Args:
        source_lengths: number of sources of each sample in the first call.
        window: number of newest nodes of a sample that are stored and attended to: radius + 1 of
            a causal window. None stores all.
        constant: whether the sources are those of the first call only, as in cross-attention to
            the output of an encoder.
    """

    @renamed_keywords(keep="window")
    def __init__(
        self, source_lengths: tuple[int, ...], *, window: int | None = None, constant: bool = False
    ) -> None:
        self.lengths, self.window, self.constant = source_lengths, window, constant
        self.groups: list[_Group] = []

    drop = renamed_attribute("crop")

    @property
    def is_frozen(self) -> bool:
        """Whether no keys and values are appended any more."""
        return self.constant and bool(self.groups)

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor | None,
        adjacency: Adjacency,
        *,
        bias: Tensor | OffsetBias | None = None,
        edge_weight: Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Append keys and values, and return `graphformer.attention` of the new targets.

        Args:
            q: queries, [M, H, D]; after the first call [B * n, H, D] for n targets a sample.
            k, v: keys [N, Hkv, D] and values [N, Hkv, Dv] of the new nodes; None if the cache is
                frozen.
            adjacency: of the first call; later targets attend to all stored nodes.
            bias, edge_weight, scale, softcap, dropout, backend, return_weights: as in
                `graphformer.attention`. After the first call, `dropout` and `backend` are ignored.

        Raises:
            ValueError: after the first call, when `edge_weight`, a `bias` by edge or
                `return_weights` is given.
        """
        if not self.groups and k is not None and v is not None:
            self._fill(k, v)
            return attention(
                q,
                k,
                v,
                adjacency,
                bias=bias,
                edge_weight=edge_weight,
                scale=scale,
                softcap=softcap,
                dropout=dropout,
                backend=backend,
                return_weights=return_weights,
            )
        if edge_weight is not None or return_weights or isinstance(bias, Tensor):
            raise ValueError(
                "cache: got edge_weight, a bias by edge or return_weights with it, expected none "
                "of them after the first call; run the model on the whole sequence instead"
            )
        if len(self.groups) == 1:
            return self.groups[0].attend(q, k, v, bias, scale, softcap)
        outs, first = [], 0
        new = len(q) // sum(group.count for group in self.groups)
        for group in self.groups:
            rows = slice(first, first + group.count * new)
            first = rows.stop
            keys, values = (None if x is None else x[rows] for x in (k, v))
            outs.append(group.attend(q[rows], keys, values, bias, scale, softcap))
        return torch.cat(outs)

    def reserve(self) -> tuple[Tensor, Tensor, int, int]:
        """Make room for one node of a single sample, whose keys and values the caller writes.

        Returns:
            Keys [Hkv, capacity, D] and values [Hkv, capacity, Dv], contiguous; the first slot that
            the node attends to, and the node's slot.
        """
        (group,) = self.groups
        group.reserve(1)
        return group.keys[0], group.values[0], group.first(1), group.end - 1

    def select(self, rows: Tensor) -> None:
        """Keep the samples `rows`, int64 [B'] on the keys' device, ascending; repeats copy one."""
        groups, first = [], 0
        for group in self.groups:
            own = rows[(rows >= first) & (rows < first + group.count)] - first
            first += group.count
            if len(own):
                group.select(own)
                groups.append(group)
        self.groups = groups

    def crop(self, count: int) -> None:
        """Remove the newest `count` nodes of each sample, no more than the last call appended."""
        for group in self.groups:
            group.end -= count

    def _fill(self, k: Tensor, v: Tensor) -> None:
        """Store the keys and values of the first call as views, one group per run of lengths."""
        first = 0
        for length, run in groupby(self.lengths):
            count = len(list(run))
            rows = slice(first, first + count * length)
            first = rows.stop
            shape = (count, length, *k.shape[1:2])
            keys = k[rows].view(*shape, k.shape[2]).transpose(1, 2)
            values = v[rows].view(*shape, v.shape[2]).transpose(1, 2)
            if self.constant:  # read at every step, and never copied into a larger buffer
                keys, values = keys.contiguous(), values.contiguous()
            self.groups.append(_Group(keys, values, self.window))


class ContentKVCache(KVCache):
    """The queries, keys and values of one attention module over edges made from content.

    New nodes attend to the sources that the rule selects for them from all stored queries and keys.

    Args:
        source_lengths: number of nodes of each sample in the first call.
        rule: selects the edges; causal.
    """

    def __init__(self, source_lengths: tuple[int, ...], rule: Selection) -> None:
        super().__init__(source_lengths)
        self.rule = rule
        self.samples: list[tuple[Tensor, Tensor, Tensor]] = []

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor | None,
        adjacency: Adjacency,
        *,
        bias: Tensor | OffsetBias | None = None,
        edge_weight: Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Append queries, keys and values, and return attention of the new targets.

        Args:
            q, k, v: of the new nodes, [M, H, D], [M, Hkv, D] and [M, Hkv, Dv].
            adjacency: of the first call, an adjacency made from content.
            bias, edge_weight, scale, softcap, dropout, backend, return_weights: as in
                `graphformer.attention`. After the first call, `dropout` and `backend` are ignored.

        Raises:
            ValueError: when values of edges are given or requested.
        """
        assert k is not None
        assert v is not None
        if not self.samples:
            parts = (x.split(self.lengths) for x in (q, k, v))
            self.samples = list(zip(*parts, strict=True))
            return attention(
                q, k, v, adjacency, bias=bias, edge_weight=edge_weight, scale=scale,
                softcap=softcap, dropout=dropout, backend=backend, return_weights=return_weights,
            )  # fmt: skip
        if edge_weight is not None or return_weights or isinstance(bias, Tensor):
            raise ValueError(
                "cache: got edge_weight, a bias by edge or return_weights with it, expected none "
                "of them after the first call; run the model on the whole sequence instead"
            )
        new = [x.unflatten(0, (len(self.samples), -1)) for x in (q, k, v)]
        self.samples = [
            (torch.cat([queries, q_new]), torch.cat([keys, k_new]), torch.cat([values, v_new]))
            for (queries, keys, values), q_new, k_new, v_new in zip(self.samples, *new, strict=True)
        ]
        return torch.cat(
            [self._attend(sample, new[0].shape[1], bias, scale, softcap) for sample in self.samples]
        )

    def select(self, rows: Tensor) -> None:
        """Keep the samples `rows`, int64 [B'], which may repeat."""
        self.samples = [self.samples[row] for row in rows.tolist()]

    def crop(self, count: int) -> None:
        """Remove the newest `count` nodes of each sample."""
        self.samples = [
            (q[: len(q) - count], k[: len(k) - count], v[: len(v) - count])
            for q, k, v in self.samples
        ]

    def _attend(
        self,
        sample: tuple[Tensor, Tensor, Tensor],
        new: int,
        bias: OffsetBias | None,
        scale: float | None,
        softcap: float | None,
    ) -> Tensor:
        """Return attention of the last `new` nodes of a sample, [new, H, Dv]."""
        q, k, v = sample
        first = len(q) - new
        scale = q.shape[2] ** -0.5 if scale is None else scale
        with torch.autocast(q.device.type, enabled=False):  # as in the selection of the full pass
            present = self.rule.mask(q, k, first)
            k, v = (per_head(x, q.shape[1]) for x in (k, v))
            logits = torch.einsum("ihd,jhd->hij", *upcast(q[first:], k)) * scale
        empty = ~present.any(-1, keepdim=True)
        if softcap is not None:
            logits = softcap * (logits / softcap).tanh()
        if bias is not None:
            logits = logits + bias.toeplitz(new, len(k), first)
        weights = logits.masked_fill(~present & ~empty, -torch.inf).softmax(-1)
        return torch.einsum("hij,jhd->ihd", weights.masked_fill(empty, 0).to(v.dtype), v)


class _Group:
    """Keys and values of b samples of equal length, [b, Hkv, capacity, D], from start to end."""

    def __init__(self, keys: Tensor, values: Tensor, window: int | None) -> None:
        self.window = window
        self.start, self.end = 0, keys.shape[2]
        self.keys, self.values = keys, values  # views; the first append allocates a buffer

    @property
    def count(self) -> int:
        return self.keys.shape[0]

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor | None,
        bias: OffsetBias | None,
        scale: float | None,
        softcap: float | None,
    ) -> Tensor:
        new, mask = q.shape[0] // self.count, None
        if k is not None and v is not None:
            self._append(k, v)
            mask = self._mask(new, bias)
        keys = self.keys[:, :, self.first(new) : self.end]
        values = self.values[:, :, self.first(new) : self.end]
        # The query heads of one key head are passed as targets of that head: [b, Hkv, H / Hkv * n,
        # D]. So grouped keys and values are not repeated.
        heads, kv_heads = q.shape[1], keys.shape[1]
        if mask is not None:
            mask = mask.expand(heads, -1, -1).reshape(1, kv_heads, heads // kv_heads * new, -1)
        q = q.view(self.count, new, heads, -1).transpose(1, 2)
        q = q.reshape(self.count, kv_heads, heads // kv_heads * new, -1)
        if softcap is None:
            out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale)
        else:
            logits = (q @ keys.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
            logits = softcap * (logits / softcap).tanh()
            out = (logits if mask is None else logits + mask).softmax(-1) @ values
        return out.view(self.count, heads, new, -1).transpose(1, 2).flatten(0, 1)

    def first(self, new: int) -> int:
        """Return the slot of the first node that the first of the new nodes attends to."""
        if self.window is None:
            return self.start
        return max(self.start, self.end - new + 1 - self.window)

    def _mask(self, new: int, bias: OffsetBias | None) -> Tensor | None:
        """Return the bias of the new nodes' logits, [H or 1, new, length]; None for zeros."""
        length = self.end - self.first(new)
        logits = None
        if bias is not None:
            logits = bias.toeplitz(new, length, length - new).to(self.keys.dtype)
        if new == 1:
            return logits
        present = torch.ones(new, length, dtype=torch.bool, device=self.keys.device)
        present = present.tril(length - new)
        if self.window is not None:
            present = present.triu(length - new + 1 - self.window)
        if logits is None:
            logits = self.keys.new_zeros(1, new, length)
        return logits.masked_fill(~present, -torch.inf)

    def select(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def _append(self, k: Tensor, v: Tensor) -> None:
        new = k.shape[0] // self.count
        self.reserve(new)
        slots = slice(self.end - new, self.end)
        for buffer, added in ((self.keys, k), (self.values, v)):
            buffer[:, :, slots] = added.view(self.count, new, *added.shape[1:]).transpose(1, 2)

    def reserve(self, new: int) -> None:
        """Append slots of `new` nodes, which hold no keys and values yet."""
        if self.end + new > self.keys.shape[2]:
            self._grow(new)
        self.end += new

    def _grow(self, new: int) -> None:
        """Move the stored nodes to the start of buffers of twice their number."""
        if self.window is not None:
            self.start = max(self.start, self.end - self.window)
        stored = slice(self.start, self.end)
        length = self.end - self.start
        self.keys, self.values = (
            _with_capacity(buffer[:, :, stored], max(64, 2 * (length + new)))
            for buffer in (self.keys, self.values)
        )
        self.start, self.end = 0, length


def _with_capacity(x: Tensor, capacity: int) -> Tensor:
    """Copy x [b, H, n, D] to the start of a new tensor [b, H, capacity, D]."""
    larger = x.new_empty(*x.shape[:2], capacity, x.shape[3])
    larger[:, :, : x.shape[2]] = x
    return larger
