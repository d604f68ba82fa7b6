"""`EntityDescriptions`: facts about entities that are given by their descriptions alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.batch import pack_tokens
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.text.knowledge.base import KnowledgeData
from graphformer.data.text.knowledge.word_graphs import known_index


class EntityDescriptions(KnowledgeData):
    """WordNet's facts with a text for each entity, <cls>, its names and its gloss, as in KEPLER.

    A batch of P facts has the descriptions of its B entities as samples: x (token ids, [N]), pos
    [N], lengths, triples (sample of the head, relation and sample of the tail, int64 [P, 3]) and
    known_index (number of the fact and sample of each other true tail, int64 [2, K]). In validation
    and test a batch has the descriptions of all entities, in their order, so that sample and entity
    are the same number. The split is that of `WordKnowledgeGraphs` with the same seed.

    Args:
        paths: WordNet's files.
        subtree: a word or key; the entities are then the first synset with it and those below.
        vocabulary, vocabulary_size: of the words, see `make_tokenizer`.
        max_length: maximum number of tokens of a description; further ones are cut off.
        batch_size: P, the number of facts in a batch.
        val_fraction, test_fraction: of the entities, those with a held-out fact.
        root: the data root.
        seed: of the split and the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a line is not a synset, or no synset has the word `subtree`.

    Source: Wang et al., 2021 (KEPLER).
    """

    def __init__(
        self,
        paths: Sequence[str] = ("wordnet/data.noun.gz",),
        *,
        subtree: str | None = None,
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 64,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            paths,
            subtree=subtree,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            fractions=(val_fraction, test_fraction),
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.max_length, self.batch_size = max_length, batch_size

    def batches(self, split: str) -> BatchLoader:
        """Return the facts of a split in batches, those of the training split shuffled."""
        samples = self.samples(split)
        sampler = BatchSampler(
            len(samples), self.batch_size, shuffle=split == "train", seed=self.seed
        )
        return BatchLoader(samples, sampler)

    def samples(self, split: str) -> DescribedFacts:
        """Return the facts of a split with the descriptions of the entities."""
        graph, facts = self.loaded()
        tokenizer = self.need_tokenizer()
        texts = [
            f"{', '.join(names)}: {gloss}"
            for names, gloss in zip(graph.names, graph.descriptions, strict=True)
        ]
        cls = np.array([tokenizer.need("cls")])
        rows = [
            np.concatenate([cls, ids.numpy()])[: self.max_length]
            for ids in tokenizer.encode_batch(texts)
        ]
        known = self.known_tails(split)
        return DescribedFacts(rows, facts.queries[split], known, with_all=split != "train")


class DescribedFacts:
    """Facts whose batches contain the descriptions of their entities, each once.

    Args:
        descriptions: token ids of each of the E entities.
        facts: head, relation and tail, int64 [n, 3].
        known: true tails of each head and relation.
        with_all: whether batches contain the descriptions of all entities.
    """

    def __init__(
        self,
        descriptions: list[np.ndarray],
        facts: np.ndarray,
        known: dict[tuple[int, int], np.ndarray],
        *,
        with_all: bool,
    ) -> None:
        self.descriptions, self.facts = descriptions, facts
        self.known, self.with_all = known, with_all

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, index: Tensor) -> Batch:
        chosen = self.facts[index.numpy()]
        entities = np.arange(len(self.descriptions))
        if not self.with_all:
            entities = np.unique(chosen[:, [0, 2]])
        batch = pack_tokens([self.descriptions[i] for i in entities.tolist()])
        heads, tails = (np.searchsorted(entities, chosen[:, i]) for i in (0, 2))
        batch.triples = torch.from_numpy(np.stack([heads, chosen[:, 1], tails], axis=1))
        other = [
            np.flatnonzero(np.isin(entities, self.known[head, relation]) & (entities != tail))
            for head, relation, tail in chosen.tolist()
        ]
        batch.known_index = known_index(other)
        return batch
