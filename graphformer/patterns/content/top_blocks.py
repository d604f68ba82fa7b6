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
        k: number of blocks that a block attends to.
        causal: whether nodes attend to themselves and earlier nodes only.
        first: number of first blocks of the sample that are always chosen.
        nearest: number of nearest blocks before, the own one included, that are always chosen; if
            not causal, as many after.
        share_heads: whether the query heads of a key head (grouped-query attention) have the same
            blocks, those with the largest sum of scores; keys are then gathered once for them.

    Raises:
        ValueError: when a number is out of range, or there are more fixed blocks than k.

    Source: Lu et al., 2025, "MoBA: Mixture of block attention"; Tang et al., 2024, "Quest"; Yuan et
        al., 2025, "Native sparse attention", section 3.3.2 (blocks of grouped heads).
    """

    block: int
    k: int
    causal: bool = False
    first: int = 0
    nearest: int = 1
    share_heads: bool = False

    def __post_init__(self) -> None:
        check_positive(block=self.block, k=self.k, nearest=self.nearest)
        fixed = self.first + (self.nearest if self.causal else 2 * self.nearest - 1)
        if self.first < 0 or fixed > self.k:
            raise ValueError(
                f"first, nearest: got {self.first} and {self.nearest}, which fix {fixed} blocks, "
                f"expected at most k={self.k}; lower them, or raise k"
            )

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        count, num_heads = q.shape[:2]
        run = self._run(q, k)
        sizes: list[tuple[Tensor, Tensor]] = []
        for group in groups(lengths, q.device):
            chosen = self._chosen(by_head(q, group, num_heads), by_head(k, group, num_heads), run)
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
            + [F.pad(rows, (0, width - rows.shape[1]), value=-1) for _, rows in sizes]
        )

        def mask(part: slice | Tensor) -> Tensor:
            target, source = targets[part].unsqueeze(2), sources[part].unsqueeze(1)
            present = (target >= 0) & (source >= 0)
            return present & (source <= target) if self.causal else present

        common, has_common = self._common_mask(targets, sources)
        tiles = Tiles(targets, sources, mask, common, has_common, run=run)
        return TiledEdges((tiles,), (count, count), num_heads)

    def _common_mask(self, targets: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask [block, n] of tiles without padding, and which tiles have none, [T].

        All sources are visible, but if causal those of the own block, which is the last one, up to
        the target only.
        """
        shape = (self.block, sources.shape[1])
        common = torch.ones(shape, dtype=torch.bool, device=targets.device)
        if self.causal:
            common = common.tril(shape[1] - self.block)
        return common, (targets >= 0).all(1) & (sources >= 0).all(1)

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        heads, size = q.shape[1], len(k)
        keys = k.transpose(0, 1).repeat_interleave(heads // k.shape[1], dim=0)
        queries = q.transpose(0, 1).unsqueeze(0)
        chosen = self._chosen(queries, keys.unsqueeze(0), self._run(q, k))[0]
        blocks = -(-size // self.block)
        attended = torch.zeros(heads, blocks, blocks + 1, dtype=torch.bool, device=q.device)
        attended.scatter_(-1, chosen.where(chosen >= 0, blocks), True)
        block = torch.arange(size, device=q.device) // self.block
        mask = attended[:, block[first:]][:, :, block]
        return mask.tril(first) if self.causal else mask

    def _run(self, q: Tensor, k: Tensor) -> int:
        """Return the number of query heads that have the same blocks."""
        return q.shape[1] // k.shape[1] if self.share_heads else 1

    def _chosen(self, q: Tensor, k: Tensor, run: int) -> Tensor:
        """Return the blocks that each block attends to, ascending, int64 [c, H, blocks, k].

        Where there are fewer, the first ones are -1.

        Args:
            q: queries, [c, H, n, D].
            k: keys, [c, H, n, D].
            run: number of heads with the same blocks.
        """
        scores = self._pooled_queries(wide(q)) @ self._pooled_keys(wide(k)).transpose(-1, -2)
        if run > 1:
            total = scores.unflatten(1, (-1, run)).sum(2)
            scores = total.repeat_interleave(run, dim=1)
        # Fixed blocks have infinity, and so come before NaN and infinite scores.
        scores = scores.nan_to_num(nan=torch.finfo(scores.dtype).min)
        blocks = scores.shape[-1]
        number = torch.arange(blocks, device=q.device)
        distance = number.unsqueeze(1) - number  # of the target's block from the source's
        fixed = (number < self.first) | (distance.abs() < self.nearest)
        scores = scores.masked_fill(fixed, torch.inf)
        if self.causal:
            scores = scores.masked_fill(distance < 0, -torch.inf)
        values, chosen = scores.topk(min(self.k, blocks), dim=-1)
        return chosen.masked_fill(values == -torch.inf, -1).sort(-1).values

    def _pooled_queries(self, q: Tensor) -> Tensor:
        """Return the mean query of each block, [..., blocks, D]; see the class if causal."""
        if not self.causal:
            return self._pooled_keys(q)
        return self._pooled_keys(F.pad(q, (0, 0, self.block - 1, 0)), skipped=self.block - 1)

    def _pooled_keys(self, x: Tensor, skipped: int = 0) -> Tensor:
        """Return the mean of each block of x [..., n, D]; the first `skipped` rows are padding."""
        size = x.shape[-2]
        blocks = -(-(size - skipped) // self.block)
        ends = torch.arange(1, blocks + 1, device=x.device) * self.block
        counts = torch.minimum(ends, torch.full_like(ends, size))
        counts = counts - (ends - self.block).clamp(min=skipped)
        x = F.pad(x, (0, 0, 0, max(blocks * self.block - size, 0)))[..., : blocks * self.block, :]
        return x.unflatten(-2, (blocks, self.block)).sum(-2) / counts.unsqueeze(-1)

    def _blocks(self, rows: Tensor) -> Tensor:
        """Return rows [..., n] as [..., blocks, block], filled up with -1."""
        size = rows.shape[-1]
        return F.pad(rows, (0, -size % self.block), value=-1).unflatten(-1, (-1, self.block))
