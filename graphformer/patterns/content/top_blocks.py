"""`TopBlocks`: blocks of sources with the largest products of pooled queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, TiledEdges, Tiles
from graphformer.patterns.content.base import (
    ContentPattern,
    by_head,
    check_positive,
    groups,
    head_rows,
    wide,
)


@dataclass(frozen=True)
class TopBlocks(ContentPattern):
    """Every block of nodes attends to the `k` blocks with the largest scores, by head.

    A sample is cut into blocks of `block` consecutive nodes. The score of a pair is the product of
    the mean query of the one and the mean key of the other. A block always attends to itself; the
    first and the nearest blocks may be chosen always as well, and count among the `k`.

    If causal, only earlier blocks and the earlier nodes of the own block are sources, and the mean
    is that of the `block` queries that end at the first query of the block: so the edges of a node
    depend on no later node, and decoding with a cache gives the tokens of the full pass.

    Args:
        block: number of nodes of a block.
        k: number of blocks that a block attends to; a tuple has one for each key head.
        causal: whether nodes attend to themselves and earlier nodes only.
        first: number of first blocks of the sample that are always chosen.
        nearest: number of nearest blocks before, the own one included, that are always chosen; if
            not causal, as many after.
        share_heads: whether the query heads of a key head (grouped-query attention) have the same
            blocks, those with the largest sum of shares, a head's softmax of score / sqrt(D) over
            all blocks; keys are then gathered once for them.
        variance: whether the score also has half the variance of the logits over the keys of a
            block, with the mean query and without correlations of entries: the second term of the
            logarithm of the mean of exp(logit). A block with few large logits is then found.

    Raises:
        ValueError: when a number is out of range, or there are more fixed blocks than k; in a call
            when the key heads are not as many as the numbers of k.

    Source: Lu et al., 2025, "MoBA: Mixture of block attention"; Tang et al., 2024, "Quest"; Yuan et
        al., 2025, "Native sparse attention", section 3.3.2 (blocks of grouped heads).
    """

    block: int
    k: int | tuple[int, ...]
    causal: bool = False
    first: int = 0
    nearest: int = 1
    share_heads: bool = False
    variance: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.k, list):  # from a YAML file
            object.__setattr__(self, "k", tuple(self.k))
        counts = self.k if isinstance(self.k, tuple) else (self.k,)
        if not counts:
            raise ValueError("k: got no number, expected one for each key head")
        for count in counts:
            check_positive(block=self.block, k=count, nearest=self.nearest)
        fixed = self.first + (self.nearest if self.causal else 2 * self.nearest - 1)
        if self.first < 0 or fixed > min(counts):
            raise ValueError(
                f"first, nearest: got {self.first} and {self.nearest}, which fix {fixed} blocks, "
                f"expected at most k={min(counts)}; lower them, or raise k"
            )

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        count, num_heads = q.shape[:2]
        run = num_heads // k.shape[1] if self.share_heads else 1
        sizes: list[tuple[Tensor, Tensor]] = []
        for group in groups(lengths, q.device):
            chosen = self._chosen(by_head(q, group), by_head(k, group))
            targets = self._blocks(head_rows(group.nodes, num_heads, count))
            # [c, H, blocks, k, block]: the rows of the chosen blocks
            index = chosen.clamp(min=0).unsqueeze(-1).expand(*chosen.shape, self.block)
            rows = targets.unsqueeze(3).expand(-1, -1, -1, chosen.shape[-1], -1)
            sources = rows.gather(2, index).masked_fill(chosen.unsqueeze(-1) < 0, -1)
            # Tiles of heads with the same blocks follow one another: [c, H / r, blocks, r, ...].
            parts = (x.unflatten(1, (-1, run)).transpose(2, 3) for x in (targets, sources))
            own, others = (x.flatten(4).flatten(0, 3) for x in parts)
            sizes.append((own, others))
        width = max((sources.shape[1] for _, sources in sizes), default=0)
        empty = torch.empty(0, self.block, dtype=torch.int64, device=q.device)
        targets = torch.cat([empty, *(targets for targets, _ in sizes)])
        sources = torch.cat(
            [empty.new_empty(0, width)]
            + [F.pad(rows, (width - rows.shape[1], 0), value=-1) for _, rows in sizes]
        )
        # If causal, the own block is the last one of the chosen, as they ascend.
        tiles = Tiles(targets, sources, triangle=self.causal, run=run)
        return TiledEdges((tiles,), (count, count), num_heads)

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        size = len(k)
        chosen = self._chosen(*(x.transpose(0, 1).unsqueeze(0) for x in (q, k)))[0]
        heads, blocks = chosen.shape[:2]
        attended = torch.zeros(heads, blocks, blocks + 1, dtype=torch.bool, device=q.device)
        attended.scatter_(-1, chosen.where(chosen >= 0, blocks), True)
        block = torch.arange(size, device=q.device) // self.block
        mask = attended[:, block[first:]][:, :, block]
        return mask.tril(first) if self.causal else mask

    def _chosen(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the blocks that each block attends to, ascending, int64 [c, H, blocks, k].

        Where there are fewer, the first ones are -1.

        Args:
            q: queries, [c, H, n, D].
            k: keys, [c, Hkv, n, D].
        """
        queries = self._pooled_queries(wide(q)).unflatten(1, (k.shape[1], -1))
        scores = self._scores(queries, wide(k))
        blocks = scores.shape[-1]
        number = torch.arange(blocks, device=q.device)
        distance = number.unsqueeze(1) - number  # of the target's block from the source's
        if self.share_heads:
            visible = scores.masked_fill(distance < 0, -torch.inf) if self.causal else scores
            precise = torch.float64 if q.device.type in ("cpu", "cuda") else visible.dtype
            # The logarithm, which differs between very small shares and those near 1, too
            shares = (visible.to(precise) * q.shape[-1] ** -0.5).log_softmax(-1)
            scores = shares.logsumexp(2, keepdim=True).expand_as(scores)
        scores = scores.flatten(1, 2)
        # Fixed blocks have infinity, and so come before NaN and infinite scores.
        lowest = torch.finfo(scores.dtype).min
        scores = scores.nan_to_num(nan=lowest, neginf=lowest)
        fixed = (number < self.first) | (distance.abs() < self.nearest)
        scores = scores.masked_fill(fixed, torch.inf)
        if self.causal:
            scores = scores.masked_fill(distance < 0, -torch.inf)
        # Of equal scores the first ones, whichever number of blocks there is
        ordered = scores.sort(dim=-1, descending=True, stable=True)
        counts = self._counts(q.shape[1], k.shape[1])
        values, chosen = (x[..., : max(counts)] for x in ordered)
        place = torch.arange(chosen.shape[-1], device=q.device)
        limit = torch.tensor(counts, device=q.device).view(-1, 1, 1)
        is_chosen = (place < limit) & (values > -torch.inf)
        return chosen.masked_fill(~is_chosen, -1).sort(-1).values

    def _scores(self, queries: Tensor, k: Tensor) -> Tensor:
        """Return the score of each pair of blocks, [c, Hkv, H / Hkv, blocks, blocks].

        Args:
            queries: pooled queries, [c, Hkv, H / Hkv, blocks, D].
            k: keys, [c, Hkv, n, D].
        """
        mean = self._pooled_keys(k).unsqueeze(2)
        scores = queries @ mean.transpose(-1, -2)
        if not self.variance:
            return scores
        # log mean_j exp(s q k_j) = s q m + s^2 / 2 sum_d q_d^2 var_d + ..., divided by s
        variance = (self._pooled_keys(k.square()).unsqueeze(2) - mean.square()).clamp(min=0)
        scale = k.shape[-1] ** -0.5
        return scores + scale / 2 * (queries.square() @ variance.transpose(-1, -2))

    def _counts(self, num_heads: int, num_kv_heads: int) -> list[int]:
        """Return the number of blocks that each query head chooses, H numbers.

        Raises:
            ValueError: when k has another number of key heads.
        """
        if isinstance(self.k, int):
            return [self.k] * num_heads
        if len(self.k) != num_kv_heads:
            raise ValueError(
                f"k: got {len(self.k)} numbers, expected one for each of {num_kv_heads} key heads; "
                "pass one number for all"
            )
        return [count for count in self.k for _ in range(num_heads // num_kv_heads)]

    def _pooled_queries(self, q: Tensor) -> Tensor:
        """Return the mean query of each block, [..., blocks, D]; see the class if causal."""
        if not self.causal:
            return self._pooled_keys(q)
        size = q.shape[-2]
        before = q[
            ..., 1 : 1 + (size - 1) // self.block * self.block, :
        ]  # up to the last first one
        return torch.cat([q[..., :1, :], self._pooled_keys(before)], dim=-2)

    def _pooled_keys(self, x: Tensor) -> Tensor:
        """Return the mean of each block of x [..., n, D]."""
        rest = x.shape[-2] % self.block
        whole, last = x.split([x.shape[-2] - rest, rest], dim=-2)
        means = whole.unflatten(-2, (-1, self.block)).mean(-2)
        return torch.cat([means, last.mean(-2, keepdim=True)], dim=-2) if rest else means

    def _blocks(self, rows: Tensor) -> Tensor:
        """Return rows [..., n] as [..., blocks, block], filled up with -1."""
        size = rows.shape[-1]
        return F.pad(rows, (0, -size % self.block), value=-1).unflatten(-1, (-1, self.block))
