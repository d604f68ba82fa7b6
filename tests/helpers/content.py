"""The sources of each target, made by hand from the definitions of patterns over content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency
from graphformer.data.batch import Batch
from graphformer.patterns import LSH, ContentPattern, NearestNeighbors, TopBlocks
from graphformer.patterns.content.lsh_hash import rotations

PATTERNS = [
    NearestNeighbors(3),
    NearestNeighbors(3, causal=True),
    NearestNeighbors(97),
    TopBlocks(3, 2),
    TopBlocks(5, 2, causal=True),
    TopBlocks(3, 4, first=1, nearest=2),
    TopBlocks(3, 3, causal=True, first=1, nearest=2),
    TopBlocks(53, 1, causal=True),
    TopBlocks(3, 2, share_heads=True),
    TopBlocks(3, 3, causal=True, first=1, share_heads=True),
    TopBlocks(3, (1, 4)),
    TopBlocks(3, (4, 2), causal=True, first=1, share_heads=True),
    TopBlocks(3, 2, causal=True, variance=True),
    TopBlocks(3, (2, 3), share_heads=True, variance=True),
    LSH(4, window=3),
    LSH(4, window=3, causal=True),
    LSH(2, 3, window=5),
    LSH(6, 2, window=4, causal=True, shared=True),
    LSH(4, 3, window=2, shared=True, seed=1),
]
"""Settings with which all patterns over content are tested."""


def qkv(
    lengths: tuple[int, ...], heads: tuple[int, int] = (6, 2), width: int = 5, value_width: int = 3,
    dtype: torch.dtype = torch.float64, seed: int = 0,
) -> list[Tensor]:  # fmt: skip
    """Return random queries [N, H, D], keys [N, Hkv, D] and values [N, Hkv, Dv]."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    shapes = [(count, heads[0], width), (count, heads[1], width), (count, heads[1], value_width)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def adjacency_of(pattern: ContentPattern, lengths: tuple[int, ...]) -> Adjacency:
    """Return the adjacency of samples of these sizes."""
    return pattern(Batch(x=torch.zeros(sum(lengths)), lengths=lengths, num_nodes=sum(lengths)))


def mask_of(edges: Adjacency, heads: int) -> Tensor:
    """Return selected edges as bool [H, N, N]."""
    edges = edges.to_csr()
    mask = torch.zeros(heads, *edges.shape, dtype=torch.bool)
    source, target = edges.edge_index
    mask[:, target, source] = edges.heads.T
    return mask


def nearest_neighbors(pattern: NearestNeighbors, q: Tensor, k: Tensor) -> set[tuple[int, int]]:
    """Return the pairs (target, source) of one head of one sample, q and k [n, D]."""
    edges = set()
    for i in range(len(q)):
        sources = [j for j in range(len(k)) if j <= i or not pattern.causal]
        sources.sort(key=lambda j: -float(q[i] @ k[j]))
        edges |= {(i, j) for j in sources[: pattern.k]}
    return edges


def top_blocks(pattern: TopBlocks, q: Tensor, k: Tensor) -> set[tuple[int, int]]:
    """Return the pairs (target, source) of heads with the same keys, q [n, r, D] and k [n, D]."""
    size, width = len(q), pattern.block
    blocks = [list(range(start, min(start + width, size))) for start in range(0, size, width)]
    edges = set()
    for number, targets in enumerate(blocks):
        pooled = targets
        if pattern.causal:
            pooled = list(range(max(targets[0] - width + 1, 0), targets[0] + 1))
        visible = blocks[: number + 1] if pattern.causal else blocks
        keys = torch.stack([k[sources].mean(0) for sources in visible])
        query, scale = q[pooled].mean(0), k.shape[1] ** -0.5
        logits = query @ keys.T  # [r, blocks]
        if pattern.variance:
            variances = torch.stack([k[sources].var(0, correction=0) for sources in visible])
            logits = logits + scale / 2 * query.square() @ variances.T
        if pattern.share_heads:
            logits = (logits * scale).log_softmax(1).logsumexp(0, keepdim=True)
        scores = dict(enumerate(logits.sum(0).tolist()))
        for other in scores:
            if other < pattern.first or abs(other - number) < pattern.nearest:
                scores[other] = torch.inf
        chosen = sorted(scores, key=lambda other: -scores[other])[: pattern.k]
        edges |= {
            (i, j)
            for other in chosen
            for i in targets
            for j in blocks[other]
            if j <= i or not pattern.causal
        }
    return edges


def lsh(pattern: LSH, q: Tensor, k: Tensor) -> set[tuple[int, int]]:
    """Return the pairs (target, source) of one head of one sample, q and k [n, D]."""
    drawn = rotations(q.shape[1], pattern.rounds, pattern.buckets // 2, pattern.seed)
    edges = set()
    for rotation in drawn.to(q.dtype):
        of_query, of_key = (
            torch.cat([x @ rotation, -(x @ rotation)], dim=1).argmax(1).tolist() for x in (q, k)
        )
        for i in range(len(q)):
            bucket = [j for j in range(len(k)) if of_key[j] == of_query[i]]
            before = sum(j <= i for j in bucket)
            if pattern.causal:
                low, high = max(before - pattern.window, 0), before
            else:
                low = max(before - (pattern.window + 1) // 2, 0)
                high = min(low + pattern.window, len(bucket))
                low = max(high - pattern.window, 0)
            edges |= {(i, j) for j in bucket[low:high]}
    if pattern.shared:
        with_others = {i for i, j in edges if i != j}
        edges = {(i, j) for i, j in edges if i != j or i not in with_others}
    return edges


BY_HAND: dict[type[ContentPattern], Callable[..., set[tuple[int, int]]]] = {
    NearestNeighbors: nearest_neighbors,
    TopBlocks: top_blocks,
    LSH: lsh,
}


def mask_by_hand(pattern: ContentPattern, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Return the edges of each head, bool [H, N, N], of q [N, H, D] and k [N, Hkv, D]."""
    count, heads = q.shape[:2]
    mask = torch.zeros(heads, count, count, dtype=torch.bool)
    start = 0
    for size in lengths:
        part = slice(start, start + size)
        sharing = heads // k.shape[1]
        run = sharing if getattr(pattern, "share_heads", False) else 1
        for head in range(0, heads, run):
            group = slice(head, head + run)
            queries, own = q[part, head], pattern
            if isinstance(pattern, TopBlocks):
                queries = q[part, group]
                if isinstance(pattern.k, tuple):
                    own = replace(pattern, k=pattern.k[head // sharing])
            for i, j in BY_HAND[type(pattern)](own, queries, k[part, head // sharing]):
                mask[group, start + i, start + j] = True
        start += size
    return mask


def dense_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return attention over a mask [H, N, N] by the formula, zeros for targets without an edge."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    logits = torch.einsum("ihd,jhd->hij", q, k) * scale
    empty = ~mask.any(-1, keepdim=True)
    weights = logits.masked_fill(~mask & ~empty, -torch.inf).softmax(-1).masked_fill(empty, 0)
    return torch.einsum("hij,jhd->ihd", weights, v)
