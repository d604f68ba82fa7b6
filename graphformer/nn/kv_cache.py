"""Keys and values of nodes that came before: what makes decoding one node at a time cheap."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.ops import OffsetBias, attention


class KVCache:
    """The keys and values of one attention, for nodes that are added to the ends of B samples.

    The first call takes the prompts with their adjacency and keeps their keys and values. Each
    call after that adds a node to every sample, or several, which attend to all that is kept of
    their sample up to themselves; `crop` takes the newest back. Neighbouring samples of equal
    length share one buffer, whose views go through dense attention: nothing is padded, and nothing
    copied but when a buffer grows.

    Args:
        source_lengths: nodes a sample of the sources in the first call.
        keep: how many nodes of a sample are kept, the newest ones: a causal window's radius + 1.
            None keeps all.
        constant: the sources are given once, with the first call, and later targets attend to
            them: attention to an encoder's output.
    """

    def __init__(
        self, source_lengths: tuple[int, ...], *, keep: int | None = None, constant: bool = False
    ) -> None:
        self.lengths, self.keep, self.constant = source_lengths, keep, constant
        self.runs: list[_Run] = []

    @property
    def closed(self) -> bool:
        """Whether all sources there will ever be are kept."""
        return self.constant and bool(self.runs)

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
        dropout: float = 0.0,
        backend: Any = "auto",
        return_weights: bool = False,
    ) -> Any:
        """`gf.attention` of new targets; keys and values are added to those kept.

        Args:
            q: [M, H, D]; after the first call [B * n, H, D], n targets a sample.
            k, v: [N, Hkv, D] and [N, Hkv, Dv] of the new nodes; None if the cache is closed.
            adjacency: of the first call; afterwards all that is kept is attended to.
            bias, edge_weight, scale, dropout, backend, return_weights: as in `gf.attention`; after
                the first call there is only `scale`, and a bias that is a rule.
        """
        if not self.runs and k is not None and v is not None:
            self._fill(k, v)
            return attention(
                q,
                k,
                v,
                adjacency,
                bias=bias,
                edge_weight=edge_weight,
                scale=scale,
                dropout=dropout,
                backend=backend,
                return_weights=return_weights,
            )
        if edge_weight is not None or return_weights or isinstance(bias, Tensor):
            raise ValueError(
                "with a cache, attention takes no edge_weight, no bias by edge and returns no "
                "weights: run the model on the whole text instead"
            )
        if len(self.runs) == 1:
            return self.runs[0].attend(q, k, v, bias, scale)
        outs, first = [], 0
        new = len(q) // sum(run.count for run in self.runs)
        for run in self.runs:
            rows = slice(first, first + run.count * new)
            first = rows.stop
            keys, values = (None if new is None else new[rows] for new in (k, v))
            outs.append(run.attend(q[rows], keys, values, bias, scale))
        return torch.cat(outs)

    def select(self, rows: Tensor) -> None:
        """Go on with some of the samples, in ascending order, or with one as several.

        Args:
            rows: their numbers, int64 [B'], on the keys' device.
        """
        runs, first = [], 0
        for run in self.runs:
            own = rows[(rows >= first) & (rows < first + run.count)] - first
            first += run.count
            if len(own):
                run.select(own)
                runs.append(run)
        self.runs = runs

    def crop(self, count: int) -> None:
        """Take back the newest nodes of every sample, no more than the last call added."""
        for run in self.runs:
            run.end -= count

    def _fill(self, k: Tensor, v: Tensor) -> None:
        first = 0
        for length, equal in groupby(self.lengths):
            count = len(list(equal))
            rows = slice(first, first + count * length)
            first = rows.stop
            shape = (count, length, *k.shape[1:2])
            keys = k[rows].view(*shape, k.shape[2]).transpose(1, 2)
            values = v[rows].view(*shape, v.shape[2]).transpose(1, 2)
            if self.constant:  # read at every step as they are
                keys, values = keys.contiguous(), values.contiguous()
            self.runs.append(_Run(keys, values, self.keep))


class _Run:
    """Keys and values of samples of equal length, [b, Hkv, capacity, D], from start to end."""

    def __init__(self, keys: Tensor, values: Tensor, keep: int | None) -> None:
        self.keep = keep
        self.start, self.end = 0, keys.shape[2]
        self.keys, self.values = keys, values  # views of all keys; room is made with the next node

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
    ) -> Tensor:
        new, mask = q.shape[0] // self.count, None
        if k is not None and v is not None:
            self._append(k, v)
            mask = self._mask(new, bias)
        keys = self.keys[:, :, self._first(new) : self.end]
        values = self.values[:, :, self._first(new) : self.end]
        # Query heads of one key head are that head's targets: grouped keys are never repeated.
        heads, groups = q.shape[1], keys.shape[1]
        if mask is not None:
            mask = mask.expand(heads, -1, -1).reshape(1, groups, heads // groups * new, -1)
        q = q.view(self.count, new, heads, -1).transpose(1, 2)
        q = q.reshape(self.count, groups, heads // groups * new, -1)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale)
        return out.view(self.count, heads, new, -1).transpose(1, 2).flatten(0, 1)

    def _first(self, new: int) -> int:
        """Where the first node is that the first of the new ones attends to."""
        return self.start if self.keep is None else max(self.start, self.end - new + 1 - self.keep)

    def _mask(self, new: int, bias: OffsetBias | None) -> Tensor | None:
        """What is added to the scores of the new nodes, [H or 1, new, length]; None for nothing."""
        length = self.end - self._first(new)
        scores = None
        if bias is not None:
            scores = bias.toeplitz(new, length, length - new).to(self.keys.dtype)
        if new == 1:
            return scores
        seen = torch.ones(new, length, dtype=torch.bool, device=self.keys.device)
        seen = seen.tril(length - new)
        if self.keep is not None:
            seen = seen.triu(length - new + 1 - self.keep)
        if scores is None:
            scores = self.keys.new_zeros(1, new, length)
        return scores.masked_fill(~seen, -torch.inf)

    def select(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def _append(self, k: Tensor, v: Tensor) -> None:
        new = k.shape[0] // self.count
        if self.end + new > self.keys.shape[2]:
            self._make_room(new)
        places = slice(self.end, self.end + new)
        for buffer, added in ((self.keys, k), (self.values, v)):
            buffer[:, :, places] = added.view(self.count, new, *added.shape[1:]).transpose(1, 2)
        self.end = places.stop

    def _make_room(self, new: int) -> None:
        """Move what is kept to the start of buffers twice as long as it."""
        if self.keep is not None:
            self.start = max(self.start, self.end - self.keep)
        kept = slice(self.start, self.end)
        length = self.end - self.start
        self.keys, self.values = (
            _longer(buffer[:, :, kept], max(64, 2 * (length + new)))
            for buffer in (self.keys, self.values)
        )
        self.start, self.end = 0, length


def _longer(x: Tensor, capacity: int) -> Tensor:
    longer = x.new_empty(*x.shape[:2], capacity, x.shape[3])
    longer[:, :, : x.shape[2]] = x
    return longer
