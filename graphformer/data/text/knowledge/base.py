"""`KnowledgeData`: a part of WordNet as a graph with a tokenizer of its descriptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphformer.data.io.tabular import find_file
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.knowledge.knowledge_graph import (
    FactSplit,
    KnowledgeGraph,
    split_facts,
    true_tails,
    wordnet_graph,
)
from graphformer.data.text.knowledge.wndb import read_wndb
from graphformer.data.text.tokenizer_training import make_tokenizer


class KnowledgeData(TokenizedData):
    """Entities with descriptions and facts, of which some are held out, from WordNet's files.

    Args:
        paths: files such as data.noun.gz.
        subtree: a word or key; the entities are then the first synset with it and those below.
        vocabulary, vocabulary_size: of `make_tokenizer`, trained on the descriptions that are not
            held out.
        fractions: of the entities with a held-out fact, for "val" and "test".
        root: the data root.
        seed: of the choice and of the order.

    Raises:
        ValueError: when `paths` is one text.

    Attributes:
        graph, facts: the graph and its split, after `setup`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        subtree: str | None,
        vocabulary: str,
        vocabulary_size: int,
        fractions: tuple[float, float],
        root: str | None,
        seed: int,
    ) -> None:
        super().__init__()
        if isinstance(paths, str):
            raise ValueError(f"paths: got {paths!r}, expected a list of files; write [{paths}]")
        self.paths, self.subtree = paths, subtree
        self.vocabulary, self.vocabulary_size = vocabulary, vocabulary_size
        self.fractions, self.root, self.seed = fractions, root, seed
        self.graph: KnowledgeGraph | None = None
        self.facts: FactSplit | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the files, hold out facts and make the tokenizer, once."""
        if self.graph is None:
            synsets = [s for path in self.paths for s in read_wndb(find_file(path, self.root))]
            self.graph = wordnet_graph(synsets, self.subtree)
            number = len(self.graph.names)
            self.facts = split_facts(self.graph.facts, number, self.fractions, self.seed)
        if self.tokenizer is None:
            texts = [self.graph.descriptions[i] for i in self.training_entities().tolist()]
            self.tokenizer = make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)

    def training_entities(self) -> np.ndarray:
        """Return the entities whose descriptions are trained on, int64, ascending."""
        _, facts = self.loaded()
        return np.unique(facts.queries["train"][:, 0])

    def loaded(self) -> tuple[KnowledgeGraph, FactSplit]:
        """Return the graph and its split.

        Raises:
            RuntimeError: when called before `setup`.
        """
        if self.graph is None or self.facts is None:
            raise RuntimeError(f"{type(self).__name__} has no graph yet; call setup() first")
        return self.graph, self.facts

    @property
    def num_relations(self) -> int:
        """Number of distinct relations."""
        return len(self.loaded()[0].relations)

    def known_tails(self, split: str) -> dict[tuple[int, int], np.ndarray]:
        """Return the true tails of heads and relations that are no wrong answers in a split.

        In training they are those of the visible facts, otherwise those of the whole graph.
        """
        graph, facts = self.loaded()
        return true_tails(facts.visible if split == "train" else graph.facts)
