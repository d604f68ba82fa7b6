"""A graph of entities with descriptions and relations, made from WordNet; its split by facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphformer.data.text.knowledge.wndb import RELATIONS, Synset


@dataclass(frozen=True)
class KnowledgeGraph:
    """Entities with names and descriptions, and the facts that relate them.

    Attributes:
        names: of each of the E entities, one or more.
        descriptions: a text for each entity.
        relations: name of each relation.
        facts: head, relation and tail of each of the F facts, all different, int64 [F, 3].
    """

    names: list[tuple[str, ...]]
    descriptions: list[str]
    relations: list[str]
    facts: np.ndarray


@dataclass(frozen=True)
class FactSplit:
    """The facts that models may read, and those that they predict.

    Attributes:
        visible: facts of the graph without those between the entities of a held-out fact, in
            either direction, int64 [V, 3].
        queries: by split, the facts whose tails are predicted, int64 [Q, 3]. The heads of "val"
            and "test" are not heads of "train", so that their descriptions are new.
    """

    visible: np.ndarray
    queries: dict[str, np.ndarray]


def wordnet_graph(synsets: Sequence[Synset], subtree: str | None = None) -> KnowledgeGraph:
    """Return synsets as entities, their glosses as descriptions and their pointers as facts.

    Pointers to synsets that are absent are left out.

    Args:
        synsets: of one or several files.
        subtree: a word or a key such as "n00015388"; the entities are then the first synset with
            it and all hyponyms and instances below.

    Raises:
        ValueError: when no synset has the word or key.
    """
    if subtree is not None:
        synsets = _subtree(synsets, subtree)
    number = {synset.key: i for i, synset in enumerate(synsets)}
    named = [
        (i, symbol, number[key])
        for i, synset in enumerate(synsets)
        for symbol, key in synset.pointers
        if key in number and number[key] != i
    ]
    symbols = [symbol for symbol in RELATIONS if symbol in {symbol for _, symbol, _ in named}]
    facts = sorted({(head, symbols.index(symbol), tail) for head, symbol, tail in named})
    return KnowledgeGraph(
        [tuple(word.replace("_", " ") for word in synset.words) for synset in synsets],
        [synset.gloss for synset in synsets],
        [RELATIONS[symbol] for symbol in symbols],
        np.array(facts, np.int64).reshape(-1, 3),
    )


def _subtree(synsets: Sequence[Synset], top: str) -> list[Synset]:
    by_key = {synset.key: synset for synset in synsets}
    first = next((s.key for s in synsets if top == s.key or top in s.words), None)
    if first is None:
        raise ValueError(
            f"subtree: got {top!r}, which is neither a word nor a key of {len(synsets)} synsets, "
            "expected one of theirs; write blanks as _"
        )
    found, open_keys = {first}, [first]
    while open_keys:
        for symbol, key in by_key[open_keys.pop()].pointers:
            if symbol in ("~", "~i") and key in by_key and key not in found:
                found.add(key)
                open_keys.append(key)
    return [synset for synset in synsets if synset.key in found]


def split_facts(
    facts: np.ndarray, num_entities: int, fractions: tuple[float, float], seed: int
) -> FactSplit:
    """Hold out one fact of some entities for validation, and of others for test.

    All facts between both entities of a held-out fact are removed, so that neither it nor its
    inverse is visible. Both entities have other facts left.

    Args:
        facts: int64 [F, 3], head, relation and tail.
        num_entities: E.
        fractions: of the entities for "val" and "test"; fewer if too few have two neighbours.
        seed: of the choice.

    Raises:
        ValueError: when a split has no fact.
    """
    neighbors: dict[int, set[int]] = defaultdict(set)
    outgoing: dict[int, list[np.ndarray]] = defaultdict(list)
    for fact in facts:
        head, tail = int(fact[0]), int(fact[2])
        neighbors[head].add(tail)
        neighbors[tail].add(head)
        outgoing[head].append(fact)
    generator = np.random.default_rng(seed)
    counts = [round(fraction * num_entities) for fraction in fractions]
    held_out: list[np.ndarray] = []
    pairs: set[tuple[int, int]] = set()
    for head in generator.permutation(num_entities).tolist():
        if len(held_out) == sum(counts):
            break
        choices = [f for f in outgoing[head] if _may_remove(neighbors, head, int(f[2]))]
        if choices:
            fact = choices[generator.integers(len(choices))]
            tail = int(fact[2])
            held_out.append(fact)
            pairs |= {(head, tail), (tail, head)}
            neighbors[head].remove(tail)
            neighbors[tail].remove(head)
    if len(held_out) < 2:
        raise ValueError(
            f"val_fraction, test_fraction: got {fractions[0]} and {fractions[1]} of {num_entities} "
            "entities, expected a fact for each of both splits; raise them, or use a larger graph"
        )
    is_visible = np.array([(int(f[0]), int(f[2])) not in pairs for f in facts], bool)
    visible = facts[is_visible]
    queries = np.stack(held_out)
    first = round(len(queries) * counts[0] / sum(counts))
    train = visible[~np.isin(visible[:, 0], queries[:, 0])]
    return FactSplit(visible, {"train": train, "val": queries[:first], "test": queries[first:]})


def _may_remove(neighbors: dict[int, set[int]], head: int, tail: int) -> bool:
    """Whether two entities are neighbours and each has another one."""
    return tail in neighbors[head] and len(neighbors[head]) > 1 and len(neighbors[tail]) > 1


def true_tails(facts: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the tails of each head and relation of facts [F, 3]."""
    tails: dict[tuple[int, int], list[int]] = defaultdict(list)
    for head, relation, tail in facts.tolist():
        tails[head, relation].append(tail)
    return {query: np.array(found, np.int64) for query, found in tails.items()}
