"""`MaskedNodeModeling`: masked words, entities and relations of one graph are predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.text.knowledge.word_graphs import (
    ENTITY,
    NAME,
    RELATION,
    WORD,
    WordKnowledgeGraphs,
)
from graphformer.models import Model
from graphformer.models.text.trunk import token_embedding
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import Generators, batch_generators, draw_uniform
from graphformer.tasks.text.knowledge.ranks import filtered_ranks, rank_sums
from graphformer.tasks.text.masked_language import logits_at, mask_tokens


class MaskIds(NamedTuple):
    """Ids of words that masking reads."""

    mask: int
    """Replaces masked nodes of every kind."""
    special: tuple[int, ...]
    """Words that are never masked, such as <cls>."""


class MaskedNodeModeling(Task):
    """CoLAKE: cross-entropy of masked words, entities and relations of a word-knowledge graph.

    Each kind of nodes has its own softmax over the ids of that kind. In every sample the tail of
    the query is masked; of the other nodes, a share is, but no word of a fact. Validation and test
    report

    - `hits@K` and `mrr`: of the tail among all entities, other true tails left out, with no other
      node masked;
    - `perplexity`: of masked words, with entities and relations but the tail visible.

    Batches are those of `data.WordKnowledgeGraphs`.

    Args:
        network: computes logits over the ids of all kinds, [N, K].
        adjacency: pattern of the edges of attention, such as `Documents() | Edges(undirected=True)`
            with facts and `Documents()` without.
        mask_rate: share of the entities and relations to predict, and of the words unless
            `word_mask_rate` is given; 80 % of them are replaced by the mask, 10 % by a
            random node of the same kind, and 10 % are kept.
        word_mask_rate: share of the words to predict; None: `mask_rate`.
        distractor_weight: weight of the ranking loss, the mean of max(0, margin - s + s') over the
            distractors of a tail, with the logits s of the tail and s' of the distractor.
        margin: of the ranking loss.
        hits: K of hits@K.
        names: whether training starts with the mean of the words of an entity's name as the vector
            of the entity, unless it starts with `pretrained` weights.
        seed: of the masks.
        options: those of `Task`.

    Raises:
        ValueError: when a number is out of its range; or, with `names`, when the data has no names
            of entities.

    Source: Sun et al., 2020 (CoLAKE), vectors of names included; ranking: Shen et al., 2020
    (graph-guided GLM).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        mask_rate: float = 0.15,
        word_mask_rate: float | None = None,
        distractor_weight: float = 0.0,
        margin: float = 1.0,
        hits: int = 10,
        names: bool = False,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        word_mask_rate = mask_rate if word_mask_rate is None else word_mask_rate
        if not (0 <= mask_rate < 1 and 0 <= word_mask_rate < 1):
            raise ValueError(
                f"mask_rate, word_mask_rate: got {mask_rate} and {word_mask_rate}, expected at "
                "least 0 and below 1"
            )
        if distractor_weight < 0 or margin <= 0 or hits < 1:
            raise ValueError(
                f"distractor_weight, margin, hits: got {distractor_weight}, {margin} and {hits}, "
                "expected a weight of at least 0, a margin above 0 and hits of at least 1"
            )
        self.mask_rates = {WORD: word_mask_rate, ENTITY: mask_rate, RELATION: mask_rate}
        self.names, self.seed = names, seed
        self.distractor_weight, self.margin, self.hits = distractor_weight, margin, hits
        means = {name: Mean() for name in ("loss", f"hits@{hits}", "mrr")}
        self.add_metrics({**means, "perplexity": Perplexity()})

    def setup(self, stage: str) -> None:
        """Start with vectors of entities from their names, if that is asked for."""
        super().setup(stage)
        if stage == "fit" and self.names and self.pretrained is None:
            data: Any = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, WordKnowledgeGraphs):
                raise ValueError(
                    f"names: got data of {type(data).__name__}, expected WordKnowledgeGraphs, "
                    "which has names of entities; leave it out"
                )
            start_with_names(self.network, data.name_tokens(), data.need_tokenizer().vocab_size)

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the masked nodes of a batch, []."""
        generators = batch_generators(self, batch, self.seed, training=True)
        masked, labels = mask_nodes(batch, generators, self._mask_ids(), self.mask_rates)
        labels[batch.target_index] = batch.x[batch.target_index]
        is_masked = labels != IGNORE_INDEX
        logits = logits_at(self.network, masked, self.adjacency(batch), is_masked)
        total = typed_losses(logits, labels[is_masked], batch.kind_starts)
        count = total.new_tensor(int(is_masked.sum()), dtype=torch.int64)
        if self.distractor_weight:
            row = is_masked.cumsum(0)[batch.target_index] - 1
            ranking = distractor_loss(_entity_logits(logits[row], batch), batch, self.margin)
            queries = count.new_tensor(len(row))
            # Of all ranks, whose batches may have other numbers of masked nodes for a query.
            all_masked, all_queries = self.sum_over_ranks(torch.stack([count, queries]))
            share = queries * all_masked / all_queries.clamp(min=1)
            total = total + self.distractor_weight * ranking * share
        return self.training_loss(total, count, rows=len(batch.x))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of losses of tails and of masked words, and of hits and ranks."""
        scores = self._tail_scores(batch)
        ranks = filtered_ranks(scores, batch.y, batch.known_index)
        generators = batch_generators(self, batch, self.seed, training=False)
        rates = {WORD: self.mask_rates[WORD]}
        masked, labels = mask_nodes(batch, generators, self._mask_ids(), rates)
        is_masked = labels != IGNORE_INDEX
        logits = logits_at(self.network, masked, self.adjacency(batch), is_masked)
        words = typed_losses(logits, labels[is_masked], batch.kind_starts)
        loss = F.cross_entropy(scores, batch.y, reduction="sum")
        count = torch.tensor(len(batch.y), device=loss.device)
        updates: dict[str, tuple[Tensor, ...]] = {**rank_sums(ranks, self.hits)}
        updates |= {"loss": (loss, count), "perplexity": (words, is_masked.sum())}
        return updates, len(batch.y)

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits of all entities as the tail of each query, [B, E]."""
        return self._tail_scores(batch)

    def _tail_scores(self, batch: BatchLike) -> Tensor:
        """Return the logits of all entities as the tail of each query, only it masked, [B, E]."""
        generators = batch_generators(self, batch, self.seed, training=False)
        asked, _ = mask_nodes(batch, generators, self._mask_ids(), {})
        is_target = torch.zeros_like(batch.x, dtype=torch.bool)
        is_target[batch.target_index] = True
        logits = logits_at(self.network, asked, self.adjacency(batch), is_target)
        return _entity_logits(logits, batch)

    def _mask_ids(self) -> MaskIds:
        tokenizer = require_tokenizer(self)
        return MaskIds(tokenizer.need("mask"), tokenizer.special_ids)


def mask_nodes(
    batch: BatchLike, generators: Generators, ids: MaskIds, rates: Mapping[int, float]
) -> tuple[BatchLike, Tensor]:
    """Return a copy of a batch with masked nodes, and labels [N], -100 elsewhere.

    The tails of all queries are masked, without a label.

    Args:
        batch: of a word-knowledge graph.
        generators: of the draws of each sample.
        ids: of the mask, and of words that are not masked.
        rates: share of the nodes of a kind that are masked; kinds without one are not.

    Source: Sun et al., 2020 (CoLAKE).
    """
    x, kind, sizes = batch.x.cpu().numpy(), batch.token_types.cpu().numpy(), lengths(batch)
    target = batch.target_index.cpu().numpy()
    rate = np.array([rates.get(k, 0.0) for k in (WORD, ENTITY, RELATION, NAME)])[kind]
    rate[target] = 0.0
    chosen = (draw_uniform(generators, sizes) < rate) & ~np.isin(x, ids.special)
    starts = np.array(batch.kind_starts)
    ids_of = np.where(kind == NAME, WORD, kind)  # whose ids a node has
    width = starts[ids_of + 1] - starts[ids_of]
    random = starts[ids_of] + (draw_uniform(generators, sizes) * width).astype(np.int64)
    replaced = mask_tokens(x, draw_uniform(generators, sizes), random, ids.mask)
    replaced = np.where(chosen, replaced, x)
    replaced[target] = ids.mask
    masked = batch.clone()
    masked.x = torch.from_numpy(replaced).to(batch.x)
    return masked, torch.from_numpy(np.where(chosen, x, IGNORE_INDEX)).to(batch.x)


@torch.no_grad()
def start_with_names(network: nn.Module, names: Sequence[Tensor], first: int) -> None:
    """Replace the vector of each entity by the mean vector of the words of its name.

    Args:
        network: a model whose ids are those of words, then of entities.
        names: word ids of each entity; one without words keeps its vector.
        first: id of the first entity.
    """
    vectors = token_embedding(cast(Model, network).embedding).weight
    for number, words in enumerate(names, first):
        if len(words):
            vectors[number] = vectors[words.to(vectors.device)].mean(0)


def typed_losses(logits: Tensor, labels: Tensor, kind_starts: tuple[int, ...]) -> Tensor:
    """Return the sum of cross-entropies, each over the ids of its label's kind, [].

    Args:
        logits: over the ids of all kinds, [n, K].
        labels: ids [n].
        kind_starts: first id of words, entities and relations, and K.
    """
    total = logits.new_zeros(())
    for start, stop in pairwise(kind_starts):
        rows = (labels >= start) & (labels < stop)
        own = logits[rows, start:stop]
        total = total + F.cross_entropy(own, labels[rows] - start, reduction="sum")
    return total


def distractor_loss(scores: Tensor, batch: BatchLike, margin: float) -> Tensor:
    """Return the mean of max(0, margin - s + s') over all distractors, []; 0 if there are none.

    Args:
        scores: of all entities for each query, [B, E].
        batch: its tails y [B] and distractors [B, D].
        margin: by which the tail's score should be higher.

    Source: Shen et al., 2020.
    """
    true = scores.gather(1, batch.y.unsqueeze(1))
    terms = F.relu(margin - true + scores.gather(1, batch.distractors))
    return terms.sum() / max(terms.numel(), 1)


def _entity_logits(logits: Tensor, batch: BatchLike) -> Tensor:
    """Return the columns of the entities, [n, K] -> [n, E]."""
    return logits[:, batch.kind_starts[ENTITY] : batch.kind_starts[ENTITY + 1]]
