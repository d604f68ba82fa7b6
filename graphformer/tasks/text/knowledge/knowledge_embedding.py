"""`KnowledgeEmbedding`: masked words and TransE over encoded descriptions, trained together."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.data.batch import pack_nodes
from graphformer.models import Model
from graphformer.nn.head import pool
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import batch_generators
from graphformer.tasks.text.knowledge.ranks import filtered_ranks, rank_sums
from graphformer.tasks.text.masked_language import (
    Masking,
    check_mask_rate,
    logits_at,
    make_masking,
)


class KnowledgeEmbedding(Task):
    """KEPLER: an encoder predicts masked words, and its vectors of descriptions embed entities.

    The vector of an entity is the last block's output at the first node, <cls>, of its
    description; relations have a table of vectors. With distance d(h, t) = |h + r - t|_p, margin g
    and n wrong tails t', the loss of a fact is

        -log sigmoid(g - d(h, t)) - 1/n sum log sigmoid(d(h, t') - g)

    The wrong tails are all other entities of the batch that are no known tails of h and r; as
    relations have inverses, this replaces heads too. The loss of a batch is the mean over its facts
    times `knowledge_weight`, plus the mean cross-entropy of the masked words in the heads'
    descriptions. Validation and test report `hits@K` and `mrr` of tails among all entities by
    distance, other true tails left out, and the `perplexity` of masked words.

    On several processes the wrong tails are those of each process's own batch, so that training
    depends on the number of processes. Batches are those of `data.EntityDescriptions`.

    Args:
        network: a `Model` that computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention within a description.
        num_relations: number of relations.
        norm: p, 1 or 2.
        margin: g.
        knowledge_weight: of the facts' loss; 0 for masked words alone.
        mask_rate: share of the words to predict, as in `MaskedLanguageModeling`.
        hits: K of hits@K.
        seed: of the masks.
        options: those of `Task`.

    Raises:
        ValueError: when a number is out of its range.
        TypeError: when the network is no `Model`.

    Source: Wang et al., 2021 (KEPLER); Bordes et al., 2013 (TransE); loss: Sun et al., 2019.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        num_relations: int,
        norm: Literal[1, 2] = 1,
        margin: float = 12.0,
        knowledge_weight: float = 1.0,
        mask_rate: float = 0.15,
        hits: int = 10,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if not isinstance(network, Model):
            raise TypeError(
                f"network: got {type(network).__name__}, expected a Model with an embedding and a "
                "Transformer; use graphformer.models.bert"
            )
        if num_relations < 1 or knowledge_weight < 0 or hits < 1:
            raise ValueError(
                f"num_relations, knowledge_weight, hits: got {num_relations}, {knowledge_weight} "
                f"and {hits}, expected at least 1, 0 and 1"
            )
        check_mask_rate(mask_rate)
        self.norm, self.margin, self.knowledge_weight = norm, margin, knowledge_weight
        self.mask_rate, self.hits, self.seed = mask_rate, hits, seed
        self.relations = nn.Embedding(num_relations, network.transformer.dim)
        self.masking: Masking | None = None
        means = {name: Mean() for name in ("loss", f"hits@{hits}", "mrr")}
        self.add_metrics({**means, "perplexity": Perplexity()})

    def setup(self, stage: str) -> None:
        """Reset masking for this run's tokenizer."""
        super().setup(stage)
        self.masking = None

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the loss of the facts plus that of the masked words of a batch, []."""
        words, count = self._masked_words(batch, training=True)
        number = count.new_tensor(len(batch.triples))
        # Of all ranks, whose batches may have other numbers of words for a fact.
        all_words, all_facts = self.sum_over_ranks(torch.stack([count, number]))
        total = words * all_facts / all_words.clamp(min=1)
        if self.knowledge_weight:
            facts = transe_loss(self._distances(batch), batch, self.margin)
            total = total + self.knowledge_weight * facts * number
        return self.training_loss(total, number, rows=len(batch.triples))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of the facts' losses, of hits and ranks, and of losses of words."""
        distances = self._distances(batch)
        ranks = filtered_ranks(-distances, batch.triples[:, 2], batch.known_index)
        words, count = self._masked_words(batch, training=False)
        number = count.new_tensor(len(batch.triples))
        loss = transe_loss(distances, batch, self.margin) * number
        updates: dict[str, tuple[Tensor, ...]] = {**rank_sums(ranks, self.hits)}
        updates |= {"loss": (loss, number), "perplexity": (words, count)}
        return updates, len(batch.triples)

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the distance of each fact's tail to all entities, [P, E]."""
        return self._distances(batch)

    def _distances(self, batch: BatchLike) -> Tensor:
        """Return |h + r - t|_p of the P heads and relations to all B samples, [P, B]."""
        network: Any = self.network
        adjacency = self.adjacency(batch)
        nodes = network.transformer(network.embedding(batch), adjacency, batch.pos)
        entities = at_least_float32(pool(nodes, lengths(batch), "cls"))
        head, relation, _ = batch.triples.T
        moved = entities[head] + at_least_float32(self.relations(relation))
        return torch.cdist(moved, entities, p=float(self.norm))

    def _masked_words(self, batch: BatchLike, *, training: bool) -> tuple[Tensor, Tensor]:
        """Return the summed loss of masked words in the heads' descriptions, and their number."""
        if self.masking is None:
            self.masking = make_masking(self, rate=self.mask_rate, seed=self.seed)
        heads = select_samples(batch, batch.triples[:, 0].unique())
        masked, y = self.masking(heads, batch_generators(self, heads, self.seed, training=training))
        is_masked = y != IGNORE_INDEX
        logits = logits_at(self.network, masked, self.adjacency(masked), is_masked)
        return F.cross_entropy(logits, y[is_masked], reduction="sum"), is_masked.sum()


def transe_loss(distances: Tensor, batch: BatchLike, margin: float) -> Tensor:
    """Return the mean loss of facts, []; a fact without a wrong tail has only the first term.

    Args:
        distances: d(h, t') of each fact to all samples as its tail, [P, B].
        batch: its triples [P, 3] and known_index [2, K].
        margin: g.

    Source: Wang et al., 2021 (KEPLER), the loss of knowledge embedding.
    """
    tail = batch.triples[:, 2:]
    is_wrong = torch.ones_like(distances, dtype=torch.bool).scatter_(1, tail, False)
    is_wrong[batch.known_index[0], batch.known_index[1]] = False
    right = F.logsigmoid(margin - distances.gather(1, tail).squeeze(1))
    wrong = (F.logsigmoid(distances - margin) * is_wrong).sum(1) / is_wrong.sum(1).clamp(min=1)
    return -(right + wrong).mean()


def select_samples(batch: BatchLike, samples: Tensor) -> Batch:
    """Return some samples of a batch of tokens as a batch with x, pos and lengths.

    Args:
        batch: packed samples.
        samples: their numbers, int64, ascending.
    """
    sizes = np.array(lengths(batch))
    chosen = samples.cpu().numpy()
    is_chosen = np.isin(np.repeat(np.arange(len(sizes)), sizes), chosen)
    return pack_nodes(batch.x[torch.from_numpy(is_chosen).to(batch.x.device)], sizes[chosen])
