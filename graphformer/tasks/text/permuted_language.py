"""`PermutedLanguageModeling`: tokens predicted in a random order, by two streams (XLNet, MPNet)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, from_edge_index
from graphformer.batch_type import Batch, BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import Generators, batch_generators
from graphformer.tasks.text.masked_language import logits_at

Kind = Literal["xlnet", "mpnet"]
CONTEXT = -1
"""Place in the order of tokens that are not predicted: all nodes may attend to them."""


class PermutedLanguageModeling(Task):
    """Cross-entropy of tokens that are predicted one after the other in a random order.

    A random share of the tokens is predicted; the others are their context. The Transformer runs
    over a graph with more nodes than tokens. Let o be the place of a token in the order, -1 for
    context; token i attends to token j if o_j <= o_i (content stream). Each predicted token has a
    query node at the same position, which attends to j if o_j < o_i, so that it depends on the
    position but not on the token; its output predicts the token (query stream). With "mpnet" each
    predicted token also has a mask node at its position: content attends to those of o_j > o_i,
    queries to those of o_j >= o_i, context and mask nodes to all, so that each node attends to all
    positions of the text. Of these edges those that `adjacency` has between the positions are
    kept.

    Metrics are loss, perplexity and accuracy over predicted tokens. Of a batch only x [N], pos and
    the sizes of the samples are used, so that data for language models can be used. Every training
    step has new orders; those of validation and test are fixed.

    Args:
        network: a `Model` of logits over the vocabulary, [N, K], with positions: those of queries
            are all that distinguishes them. XLNet's checkpoints have an embedding of queries;
            other models embed them as <mask>.
        adjacency: pattern of the edges of attention between positions.
        kind: "xlnet", or "mpnet" with mask nodes.
        rate: share of the tokens to predict; 1/6 in XLNet, 0.15 in MPNet.
        max_span: the predicted tokens are spans of 1 to this many consecutive ones, all lengths
            equally often; 5 in XLNet, 1 in MPNet.
        seed: of the orders.
        options: those of `Task`.

    Raises:
        ValueError: when the rate is not between 0 and 1, or max_span is below 1.

    Source: Yang et al., 2019 (XLNet), sections 2.3 and 3.1 (spans); Song et al., 2020 (MPNet),
    section 2.2.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        kind: Kind = "xlnet",
        rate: float = 0.15,
        max_span: int = 1,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if not 0 < rate <= 1:
            raise ValueError(f"rate: got {rate}, expected a share above 0 and at most 1")
        if max_span < 1:
            raise ValueError(f"max_span: got {max_span}, expected at least 1 token")
        self.kind, self.rate, self.max_span, self.seed = kind, rate, max_span, seed
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the predicted tokens of a batch, []."""
        logits, labels = self._predictions(batch, training=True)
        total = F.cross_entropy(logits, labels, reduction="sum")
        count = total.new_tensor(len(labels), dtype=torch.int64)
        return self.training_loss(total, count, rows=len(batch.x))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of losses and of correct predictions over the predicted tokens."""
        logits, labels = self._predictions(batch, training=False)
        total = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(-1) == labels).sum()
        count = correct.new_tensor(len(labels))
        loss = total, count
        return {"loss": loss, "perplexity": loss, "accuracy": (correct, count)}, len(batch.x)

    def _predictions(self, batch: BatchLike, *, training: bool) -> tuple[Tensor, Tensor]:
        """Return the logits of the predicted tokens [n, K], and these tokens [n]."""
        tokenizer = require_tokenizer(self)
        generators = batch_generators(self, batch, self.seed, training=training)
        excluded = np.isin(batch.x.cpu().numpy(), tokenizer.special_ids)
        order = draw_order(excluded, lengths(batch), self.rate, generators, self.max_span)
        order = order.to(batch.x.device)
        streams = two_streams(
            batch, self.adjacency(batch), order, mask_id=tokenizer.need("mask"), kind=self.kind
        )
        logits = logits_at(self.network, streams.batch, streams.adjacency, streams.queries)
        return logits, batch.x[order != CONTEXT]


class Streams(NamedTuple):
    """The graph of content, query and mask nodes.

    Attributes:
        batch: x, pos, lengths and `query_mask` of the nodes; each sample's tokens, then its mask
            nodes, then its query nodes.
        adjacency: of all nodes.
        queries: number of the query node of each predicted token, in the order of the tokens, [n].
    """

    batch: Batch
    adjacency: Adjacency
    queries: Tensor


def draw_order(
    excluded: np.ndarray,
    sizes: tuple[int, ...],
    rate: float,
    generators: Generators,
    max_span: int = 1,
) -> Tensor:
    """Return the place of each token in the order of prediction, -1 for context, int64 [N].

    About `rate` of a sample's tokens are predicted, one at least if it has one to predict.

    Args:
        excluded: tokens that are never predicted, such as <cls>, bool [N].
        sizes: number of tokens of each sample.
        rate: share of the tokens.
        generators: of the draws of each sample.
        max_span: largest number of consecutive tokens that are drawn together.
    """
    order = np.full(len(excluded), CONTEXT, np.int64)
    begin = 0
    for size, generator in zip(sizes, generators, strict=True):
        allowed = begin + np.flatnonzero(~excluded[begin : begin + size])
        count = min(len(allowed), max(1, round(rate * size)))
        if max_span > 1:
            allowed = allowed[_in_spans(len(allowed), count, max_span, generator)]
        order[generator.permutation(allowed)[:count]] = np.arange(count)
        begin += size
    return torch.from_numpy(order)


def _in_spans(size: int, count: int, max_span: int, generator: np.random.Generator) -> np.ndarray:
    """Return which of `size` tokens are in random spans that have `count` tokens, bool [size]."""
    chosen = np.zeros(size, bool)
    for start in generator.permutation(size):
        missing = count - chosen.sum()
        if not missing:
            break
        length = generator.integers(1, max_span, endpoint=True)
        span = np.arange(start, min(start + length, size))
        chosen[span[~chosen[span]][:missing]] = True
    return chosen


def two_streams(
    batch: BatchLike, adjacency: Adjacency, order: Tensor, *, mask_id: int, kind: Kind = "xlnet"
) -> Streams:
    """Return the graph over which tokens are predicted in a given order.

    Args:
        batch: tokens x [N] of samples, and pos [N] if positions are not 0, 1, ... in each.
        adjacency: which positions may attend to which, N x N.
        order: place of each token in its sample's order, -1 for context, int64 [N].
        mask_id: token of query and mask nodes.
        kind: see `PermutedLanguageModeling`.
    """
    size, device = len(batch.x), batch.x.device
    predicted = (order != CONTEXT).nonzero()[:, 0]
    has_masks = kind == "mpnet"
    # Kinds of nodes: 0 tokens, 1 masks, 2 queries; `token` is the token at whose position each is.
    groups = [torch.arange(size, device=device), predicted[: None if has_masks else 0], predicted]
    token = torch.cat(groups)
    node_kind = torch.cat([torch.full_like(g, k) for k, g in enumerate(groups)])
    sizes = torch.tensor(lengths(batch), device=device)
    sample = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)[token]
    by_sample = sample.argsort(stable=True)
    place = torch.empty_like(by_sample)
    place[by_sample] = torch.arange(len(place), device=device)
    content, masks, queries = place.split([len(group) for group in groups])

    at_mask, at_query = _at(masks, groups[1], size), _at(queries, predicted, size)
    edges = _edges(adjacency.edge_index, order, content, at_mask, at_query)
    positions = batch.pos if getattr(batch, "pos", None) is not None else _positions(sizes)
    x = torch.where(node_kind == 0, batch.x[token], mask_id)
    nodes = Batch(
        x=x[by_sample],
        pos=positions[token][by_sample],
        lengths=tuple(torch.bincount(sample, minlength=len(sizes)).tolist()),
        query_mask=(node_kind == 2)[by_sample],
    )
    return Streams(nodes, from_edge_index(edges, len(token)), queries)


def _edges(
    edge_index: Tensor, order: Tensor, content: Tensor, masks: Tensor, queries: Tensor
) -> Tensor:
    """Return the edges among the nodes of the tokens that edges between positions join, [2, E].

    Args:
        edge_index: source and target position of each edge, [2, E'].
        order: place of each token in the order of prediction, -1 for context, [N].
        content, masks, queries: node of each kind at each position, -1 where there is none, [N].
    """
    source, target = edge_index
    before, until = order[source] < order[target], order[source] <= order[target]
    is_context = order[source] == CONTEXT
    pairs = [
        (content, content, until),
        (masks, content, ~until),
        (content, masks, is_context),
        (masks, masks, torch.ones_like(before)),
        (content, queries, before),
        (masks, queries, ~before),
    ]
    joined = [
        torch.stack([one[source], other[target]])[:, allowed] for one, other, allowed in pairs
    ]
    edges = torch.cat(joined, dim=1)
    return edges[:, (edges >= 0).all(0)]


def _at(nodes: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Return the node at each of `size` positions, -1 where there is none."""
    table = nodes.new_full((size,), -1)
    table[tokens] = nodes
    return table


def _positions(sizes: Tensor) -> Tensor:
    """Return 0, 1, ... in each sample, [N]."""
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return torch.arange(len(starts), device=sizes.device) - starts
