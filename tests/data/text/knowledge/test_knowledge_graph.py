from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.wordnet import write_animals

from graphformer.data.text.knowledge.knowledge_graph import (
    KnowledgeGraph,
    split_facts,
    true_tails,
    wordnet_graph,
)
from graphformer.data.text.knowledge.wndb import read_wndb


@pytest.fixture
def graph(tmp_path: Path) -> KnowledgeGraph:
    return wordnet_graph(list(read_wndb(write_animals(tmp_path))), "animal")


def named(graph: KnowledgeGraph) -> set[tuple[str, str, str]]:
    return {
        (graph.names[h][0], graph.relations[r], graph.names[t][0])
        for h, r, t in graph.facts.tolist()
    }


def test_a_subtree_has_the_facts_among_its_synsets(graph: KnowledgeGraph) -> None:
    assert [names[0] for names in graph.names] == [
        "animal", "dog", "cat", "bird", "puppy", "terrier", "kitten"
    ]  # fmt: skip
    assert graph.names[1] == ("dog", "domestic dog")
    assert graph.relations == ["antonym", "hypernym", "hyponym"]
    below = {("animal", "dog"), ("animal", "cat"), ("animal", "bird"), ("dog", "puppy"),
             ("dog", "terrier"), ("cat", "kitten")}  # fmt: skip
    assert named(graph) == (
        {(a, "hyponym", b) for a, b in below}
        | {(b, "hypernym", a) for a, b in below}
        | {("dog", "antonym", "cat"), ("cat", "antonym", "dog")}
    )


def test_all_synsets_and_unknown_words(tmp_path: Path) -> None:
    synsets = list(read_wndb(write_animals(tmp_path)))
    assert ("bird", "hypernym", "stone") in named(wordnet_graph(synsets))
    assert len(wordnet_graph(synsets, "n00000300").names) == 2
    with pytest.raises(ValueError, match="subtree: got 'plant', .*of 8 synsets"):
        wordnet_graph(synsets, "plant")


@pytest.mark.parametrize("seed", range(5))
def test_neither_a_held_out_fact_nor_its_inverse_is_visible(
    graph: KnowledgeGraph, seed: int
) -> None:
    split = split_facts(graph.facts, 7, (0.3, 0.3), seed)
    pairs = {frozenset((h, t)) for h, _, t in split.visible.tolist()}
    held_out = np.concatenate([split.queries["val"], split.queries["test"]])
    assert len(held_out) >= 2
    for head, _, tail in held_out.tolist():
        assert frozenset((head, tail)) not in pairs
        assert any(head in pair for pair in pairs)
        assert any(tail in pair for pair in pairs)
    assert not np.isin(split.queries["train"][:, 0], held_out[:, 0]).any()
    kept = {tuple(fact) for fact in split.queries["train"].tolist()}
    assert kept <= {tuple(fact) for fact in split.visible.tolist()}


def test_too_small_a_graph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"val_fraction, test_fraction: got 0\.1 and 0\.1 of 2"):
        split_facts(np.array([[0, 0, 1], [1, 1, 0]]), 2, (0.1, 0.1), 0)


def test_true_tails() -> None:
    tails = true_tails(np.array([[2, 0, 5], [2, 1, 3], [2, 0, 7]]))
    assert {query: found.tolist() for query, found in tails.items()} == {
        (2, 0): [5, 7], (2, 1): [3]
    }  # fmt: skip
