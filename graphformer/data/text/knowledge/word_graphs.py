"""`WordKnowledgeGraphs`: a description, its entity and the facts about it as one graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.batch import positions_in_samples
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.text.knowledge.base import KnowledgeData
from graphformer.data.token_budget import budget_loader

WORD, ENTITY, RELATION, NAME = 0, 1, 2, 3
"""Kinds of nodes, in `batch.token_types`; the ids of NAME, a word of a fact, are those of words."""
_ANCHOR = 1  # position of the entity that a sample describes


class WordKnowledgeGraphs(KnowledgeData):
    """WordNet's glosses with entities and relations as nodes among the words, as in CoLAKE.

    A sample is a query, a fact whose tail is to be predicted. It has two parts:

    - a sentence: <cls>, the head as an entity node, its gloss, the relation and the tail;
    - other visible facts about the head, each a relation node and an entity node, with the edges
      head - relation - entity.

    The pattern `Documents() | Edges(undirected=True)` connects all nodes of the sentence, and the
    facts to the head; `Documents()` leaves the facts out. Neither the query nor another fact
    between its two entities is among the facts, and the glosses of validation and test are not
    trained on.

    With `fact_names`, a fact is a relation node and the words of names of its entity, as in K-BERT.
    The head, the relation and these words are all connected: by edges with the head, and as one
    document of the pattern. The words are never masked.

    A batch has x (ids of words, then of entities, then of relations, [N]), token_types (0, 1, 2 for
    these kinds and 3 for the words of facts, [N]), pos [N] (those of a fact follow the head's),
    lengths, documents, edge_index [2, E], kind_starts (first id of each kind, and their number),
    target_index (the node of each tail, [B]), y (entity of each tail, [B]), known_index (sample and
    entity of other true tails, [2, K]), and distractors (entities near each tail that are wrong
    answers, [B, D]).

    Args:
        paths: WordNet's files.
        subtree: a word or key; the entities are then the first synset with it and those below.
        vocabulary, vocabulary_size: of the words, see `make_tokenizer`.
        max_length: maximum number of tokens of a gloss; further ones are cut off.
        max_facts: maximum number of facts of a sample, drawn at random.
        hide_heads: whether <mask> takes the place of each head, so that an entity is known by its
            gloss and its facts alone, as a new one is; otherwise a head has a vector of its own,
            which training on the inverse facts has fitted to the same neighbours.
        fact_names: number of names whose words take the place of the entity of a fact, or all that
            it has if fewer; 0: an entity node.
        num_distractors: D, drawn from the entities at most two facts away from the tail.
        max_tokens: the budget of a batch, in nodes.
        val_fraction, test_fraction: of the entities, those with a held-out fact.
        root: the data root.
        seed: of the split, the choices and the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a number is out of its range, a line is not a synset, or no synset has the
            word `subtree`.

    Source: Sun et al., 2020 (CoLAKE); soft positions, words of facts: Liu et al., 2020 (K-BERT);
    distractors: Shen et al., 2020, "Exploiting structured knowledge in text via graph-guided
    representation learning".
    """

    def __init__(
        self,
        paths: Sequence[str] = ("wordnet/data.noun.gz",),
        *,
        subtree: str | None = None,
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 64,
        max_facts: int = 8,
        hide_heads: bool = False,
        fact_names: int = 0,
        num_distractors: int = 4,
        max_tokens: int = 2048,
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
        if max_length < 1 or min(max_facts, fact_names, num_distractors) < 0:
            raise ValueError(
                f"max_length, max_facts, fact_names, num_distractors: got {max_length}, "
                f"{max_facts}, {fact_names} and {num_distractors}, expected at least 1, 0, 0 and 0"
            )
        self.max_length, self.max_facts, self.max_tokens = max_length, max_facts, max_tokens
        self.num_distractors, self.hide_heads = num_distractors, hide_heads
        self.fact_names = fact_names

    @property
    def vocab_size(self) -> int:
        """Number of words, entities and relations."""
        graph, _ = self.loaded()
        return super().vocab_size + len(graph.names) + len(graph.relations)

    def name_tokens(self) -> list[Tensor]:
        """Return the word ids of each entity's first name, in the order of the entities."""
        graph, _ = self.loaded()
        return self.need_tokenizer().encode_batch([names[0] for names in graph.names])

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split within the budget, the training split's shuffled."""
        samples = self.samples(split)
        tokens = self.max_tokens
        return budget_loader(samples, split, max_tokens=tokens, max_edges=None, seed=self.seed)

    def samples(self, split: str) -> WordGraphSamples:
        """Return the queries of a split as graphs of words, entities and relations."""
        graph, facts = self.loaded()
        queries = facts.queries[split]
        tokenizer = self.need_tokenizer()
        encoded = tokenizer.encode_batch(graph.descriptions)
        words = [ids.numpy()[: self.max_length] for ids in encoded]
        num_words, num_entities = tokenizer.vocab_size, len(graph.names)
        starts = (0, num_words, num_words + num_entities, self.vocab_size)
        in_facts = self._entities_in_facts()
        generator = np.random.default_rng((self.seed, len(queries)))
        neighbors = _neighbors(facts.visible)
        known = self.known_tails(split)
        nearby = cache(partial(_nearby, neighbors))
        rows, sizes, tails, distractors = [], [], [], []
        for query in queries.tolist():
            head, relation, tail = query
            chosen = [f for f in neighbors[head] if f[1] != tail]
            if len(chosen) > self.max_facts:
                order = generator.choice(len(chosen), self.max_facts, replace=False)
                chosen = [chosen[i] for i in np.sort(order)]
            ends = [(starts[2] + r, in_facts[e]) for r, e in chosen]
            rows.append(_nodes(query, words[head], ends, tokenizer.need("cls"), starts))
            sizes.append(len(words[head]) + 4)
            true = known[head, relation]
            tails.append(true[true != tail])
            wrong = nearby(tail) - {head, *true.tolist()}
            distractors.append(
                _draw(generator, sorted(wrong), num_entities, self.num_distractors, true)
            )
        return WordGraphSamples(
            Ragged(rows, queries[:, 2].tolist()),
            np.array(sizes, np.int64),
            starts,
            tails,
            np.array(distractors, np.int64).reshape(len(queries), self.num_distractors),
            tokenizer.need("mask") if self.hide_heads else None,
        )

    def _entities_in_facts(self) -> list[np.ndarray]:
        """Return the ids of the nodes of each entity in a fact."""
        graph, _ = self.loaded()
        tokenizer = self.need_tokenizer()
        if not self.fact_names:
            return list(np.arange(len(graph.names))[:, None] + tokenizer.vocab_size)
        texts = [", ".join(names[: self.fact_names]) for names in graph.names]
        return [ids.numpy() for ids in tokenizer.encode_batch(texts)]


class WordGraphSamples:
    """Samples of `WordKnowledgeGraphs` in memory, packed by the batch.

    Args:
        nodes: ids of each sample's nodes, and the entity of each tail.
        sentences: number of nodes of each sample's sentence, [n]; the facts follow it.
        kind_starts: first id of words, entities and relations, and the number of ids.
        known: other true tails of each sample.
        distractors: entities, [n, D].
        hidden_head: id of the word in the place of every head; None: the heads.
    """

    def __init__(
        self,
        nodes: Ragged,
        sentences: np.ndarray,
        kind_starts: tuple[int, int, int, int],
        known: list[np.ndarray],
        distractors: np.ndarray,
        hidden_head: int | None = None,
    ) -> None:
        self.nodes, self.sentences, self.kind_starts = nodes, sentences, kind_starts
        self.known, self.distractors, self.hidden_head = known, distractors, hidden_head
        self.lengths = nodes.lengths
        self.num_edges: np.ndarray | None = nodes.lengths - sentences

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Tensor) -> Batch:
        chosen = index.numpy()
        batch = self.nodes[index]
        sizes, sentences = self.lengths[chosen], self.sentences[chosen]
        first = sizes.cumsum() - sizes
        pos = positions_in_samples(sizes)
        kind = np.digitize(batch.x.numpy(), self.kind_starts[1:3])
        facts = np.flatnonzero(pos >= np.repeat(sentences, sizes))
        kind[facts] = np.where(kind[facts] == WORD, NAME, kind[facts])
        batch.token_types = torch.from_numpy(kind)
        head = np.repeat(first + _ANCHOR, sizes)[facts]
        source = np.where(kind[facts] == ENTITY, facts - 1, head)
        batch.edge_index = torch.from_numpy(np.stack([source, facts]))
        relation = np.maximum.accumulate(np.where(kind[facts] == RELATION, facts, 0))
        pos[facts] = _ANCHOR + 1 + facts - relation
        batch.pos = torch.from_numpy(pos)
        parts = np.union1d(first, facts[kind[facts] != NAME])  # first nodes of documents
        batch.documents = tuple(np.diff(parts, append=len(kind)).tolist())
        if self.hidden_head is not None:
            batch.x = batch.x.index_fill(0, torch.from_numpy(first + _ANCHOR), self.hidden_head)
        batch.kind_starts = self.kind_starts
        batch.target_index = torch.from_numpy(first + sentences - 1)
        batch.known_index = known_index([self.known[i] for i in chosen.tolist()])
        batch.distractors = torch.from_numpy(self.distractors[chosen])
        return batch


def known_index(known: Iterable[np.ndarray]) -> Tensor:
    """Return the true answers of each query as pairs (query, answer), int64 [2, K]."""
    pairs = [np.stack([np.full_like(answers, i), answers]) for i, answers in enumerate(known)]
    return torch.from_numpy(np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1))


def _nodes(
    query: list[int],
    words: np.ndarray,
    facts: list[tuple[int, np.ndarray]],
    cls: int,
    starts: tuple[int, int, int, int],
) -> np.ndarray:
    """Return the ids of a sample: <cls>, head, words, relation, tail, and those of facts.

    Each of the facts is the id of its relation and those of its entity.
    """
    _, entities, relations, _ = starts
    head, relation, tail = query
    return np.concatenate(
        [
            [cls, entities + head],
            words,
            [relations + relation, entities + tail],
            *[np.append(relation_id, entity) for relation_id, entity in facts],
        ]
    ).astype(np.int64)


def _neighbors(facts: np.ndarray) -> dict[int, list[tuple[int, int]]]:
    """Return relation and tail of each head's facts [F, 3]."""
    neighbors: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for head, relation, tail in facts.tolist():
        neighbors[head].append((relation, tail))
    return neighbors


def _nearby(neighbors: dict[int, list[tuple[int, int]]], entity: int) -> set[int]:
    """Return the entities at most two facts away, the entity included."""
    near = {tail for _, tail in neighbors[entity]}
    return near | {tail for middle in near for _, tail in neighbors[middle]}


def _draw(
    generator: np.random.Generator,
    preferred: list[int],
    num_entities: int,
    count: int,
    true: np.ndarray,
) -> np.ndarray:
    """Return different entities, the preferred ones first, then others that are not true, [count].

    Raises:
        ValueError: when there are not enough entities.
    """
    chosen = generator.permutation(np.array(preferred, np.int64))[:count]
    if len(chosen) == count:
        return chosen
    others = np.setdiff1d(np.arange(num_entities), np.concatenate([chosen, true]))
    if len(others) < count - len(chosen):
        raise ValueError(
            f"num_distractors: got {count}, expected at most the {len(others) + len(chosen)} "
            "entities that are wrong answers of a query"
        )
    return np.concatenate([chosen, generator.choice(others, count - len(chosen), replace=False)])
