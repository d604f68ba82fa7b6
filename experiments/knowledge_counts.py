"""What glosses and facts tell about held-out facts of WordNet, by counts without a network.

    python experiments/knowledge_counts.py --out experiments/results/objectives/counts.json

Queries are those of datasets/wordnet_locations.yaml, both held-out splits. The score of a tail is
its frequency with the relation plus smoothed log-ratios of the head's features, such as the words
of its gloss or its visible facts, as in naive Bayes; words of a tail's own names count as one
observation of it. The weight of the features is the best of five, so that figures are slightly
optimistic, for all kinds of features alike.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import sparse

from graphformer.data import WordKnowledgeGraphs
from graphformer.data.text.knowledge.knowledge_graph import FactSplit, KnowledgeGraph, true_tails

DATA = Path(__file__).parents[1] / "datasets/wordnet_locations.yaml"
KINDS = ("relation alone", "facts", "gloss without the tail's names",
         "gloss without the tail's names, facts", "gloss", "gloss, facts")  # fmt: skip
SMOOTHING, WEIGHTS = 2.0, (0.1, 0.2, 0.4, 0.7, 1.0)
Facts = dict[int, list[tuple[int, int]]]


def words(text: str) -> set[str]:
    """Return the different words of a text."""
    return set(re.findall("[a-z]+", text.lower()))


def features(graph: KnowledgeGraph, near: Facts, query: list[int], kind: str) -> set[Hashable]:
    """Return what is known about the head of a query."""
    head, _, tail = query
    found: set[Hashable] = set()
    if kind.startswith("gloss"):
        found |= words(graph.descriptions[head])
    if "without" in kind:
        found -= words(" ".join(graph.names[tail]))
    if "facts" in kind:
        found |= {fact for fact in near[head] if fact[1] != tail}
    return found


def matrix(rows: list[set[Hashable]], number: dict[Hashable, int]) -> sparse.csr_matrix:
    """Return which known features each query has, [Q, F]."""
    pairs = [(i, number[f]) for i, row in enumerate(rows) for f in row if f in number]
    index = np.array(pairs, np.int64).reshape(-1, 2).T
    return sparse.csr_matrix((np.ones(index.shape[1]), tuple(index)), (len(rows), len(number) or 1))


def hits(graph: KnowledgeGraph, facts: FactSplit, kind: str) -> float:
    """Return hits@10 of the held-out queries."""
    near: Facts = defaultdict(list)
    for head, relation, tail in facts.visible.tolist():
        near[head].append((relation, tail))
    train = facts.queries["train"]
    held_out = np.concatenate([facts.queries["val"], facts.queries["test"]])
    rows = [features(graph, near, query, kind) for query in train.tolist()]
    number = {f: i for i, f in enumerate(dict.fromkeys(f for row in rows for f in row))}
    known = matrix(rows, number)
    asked = matrix([features(graph, near, query, kind) for query in held_out.tolist()], number)
    entities = len(graph.names)
    tails = sparse.csr_matrix(
        (np.ones(len(train)), (train[:, 2], np.arange(len(train)))), (entities, len(train))
    )
    counts = tails @ known
    if kind == "gloss" or kind == "gloss, facts":
        counts = counts + matrix([words(" ".join(names)) for names in graph.names], number)
    total = np.asarray(tails.sum(1)).ravel() + 1 + SMOOTHING
    expected = np.asarray(known.sum(0)).ravel() / len(train)
    cells = counts.tocoo()
    own = SMOOTHING * expected[cells.col]
    ratios = sparse.csr_matrix(
        (np.log((cells.data + own) / own), (cells.row, cells.col)), counts.shape
    )
    evidence = (asked @ ratios.T).toarray() + np.outer(asked.sum(1), np.log(SMOOTHING / total))
    prior = np.full((len(graph.relations), entities), 0.02)
    np.add.at(prior, (train[:, 1], train[:, 2]), 1)
    prior = np.log(prior / prior.sum(1, keepdims=True))[held_out[:, 1]]
    return max(share(weight * evidence + prior, held_out, graph) for weight in WEIGHTS)


def share(scores: np.ndarray, queries: np.ndarray, graph: KnowledgeGraph) -> float:
    """Return the share of queries with the tail among the ten best, other true tails left out."""
    known, found = true_tails(graph.facts), []
    for row, (head, relation, tail) in zip(scores, queries.tolist(), strict=True):
        better = row > row[tail]
        better[known[head, relation]] = False
        found.append(better.sum() < 10)
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = WordKnowledgeGraphs(**yaml.safe_load(DATA.read_text())["data"]["init_args"])
    data.setup()
    graph, facts = data.loaded()
    queries = np.concatenate([facts.queries["val"], facts.queries["test"]]).tolist()
    named = [any(n.lower() in graph.descriptions[h].lower() for n in graph.names[t])
             for h, _, t in queries]  # fmt: skip
    number = np.bincount(facts.visible[:, 0], minlength=len(graph.names))
    result: dict[str, Any] = {
        "queries": len(queries),
        "share_of_tails_named_in_the_gloss": float(np.mean(named)),
        "median_of_visible_facts_of_a_head": float(np.median([number[h] for h, _, _ in queries])),
        "hits@10": {kind: hits(graph, facts, kind) for kind in KINDS},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
