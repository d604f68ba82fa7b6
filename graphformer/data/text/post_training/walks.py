"""`RandomWalks`: walks to a goal on a random graph, a task for post-training without any files."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Literal

import networkx
import numpy as np
import torch

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.post_training.chat_template import SHIPPED
from graphformer.data.text.post_training.preferences import PairSamples
from graphformer.data.text.post_training.prompts import PromptSamples, prompt_loader
from graphformer.data.text.tokenizer import SPECIAL_TOKENS, Characters
from graphformer.data.token_budget import SizedSamples, budget_loader

GOAL = 0
Content = Literal["walks", "best", "pairs", "prompts"]


class WalkGraph:
    """A random directed graph with a goal, and random walks that end at the goal or are cut off.

    Args:
        num_nodes: number of nodes, at most 26; the goal is node 0.
        num_walks: number of walks.
        max_length: maximum number of nodes of a walk.
        edge_probability: of each edge; every node has an edge to another one.
        seed: of graph and walks.

    Source: https://github.com/CarperAI/trlx, examples/randomwalks, after the example of Chen et
    al., 2021 (Decision Transformer), section 3; the same graph and walks.
    """

    def __init__(
        self,
        num_nodes: int = 21,
        num_walks: int = 1000,
        max_length: int = 10,
        edge_probability: float = 0.1,
        seed: int = 1002,
    ) -> None:
        self.num_nodes, self.max_length = num_nodes, max_length
        random = np.random.RandomState(seed)
        edges = np.zeros((num_nodes, num_nodes), bool)
        while not edges.any(1).all():
            edges = random.rand(num_nodes, num_nodes) > 1 - edge_probability
            np.fill_diagonal(edges, False)
        edges[GOAL] = False
        edges[GOAL, GOAL] = True
        self.edges = edges
        self.walks = [self._walk(random) for _ in range(num_walks)]

    def _walk(self, random: np.random.RandomState) -> tuple[int, ...]:
        node = GOAL
        while node == GOAL:
            node = random.randint(self.num_nodes)
        walk = [node]
        while len(walk) < self.max_length and node != GOAL:
            node = int(random.choice(np.flatnonzero(self.edges[node])))
            walk.append(node)
        return tuple(walk)

    @cached_property
    def shortest(self) -> np.ndarray:
        """Number of nodes of a shortest path from each node to the goal, at most max_length."""
        graph = networkx.from_numpy_array(self.edges.T, create_using=networkx.DiGraph)
        distance = networkx.single_source_shortest_path_length(graph, GOAL)
        sizes = [distance.get(node, self.max_length) + 1 for node in range(self.num_nodes)]
        return np.minimum(sizes, self.max_length)

    def optimality(self, path: tuple[int, ...]) -> float:
        """Return (max_length - length) / (max_length - shortest length) of a path, in [0, 1].

        It is 0 for a path along a missing edge, or that does not reach the goal.

        Args:
            path: nodes from the start; numbers that are no nodes are allowed.
        """
        best = int(self.shortest[path[0]])
        for length, node in enumerate(path, 1):
            is_node = 0 <= node < self.num_nodes
            if not is_node or (length > 1 and not self.edges[path[length - 2], node]):
                return 0.0
            if node == GOAL:
                return max(0, self.max_length - length) / max(1, self.max_length - best)
        return 0.0


walk_graph = lru_cache(maxsize=4)(WalkGraph)
"""Returns a `WalkGraph`, made once for the same arguments."""


class RandomWalks(TokenizedData):
    """Walks on a random graph as texts of letters, whose task is a shortest path to node "a".

    Args:
        content: what the batches are: "walks" for imitation, all of them; the "best" of them;
            "pairs" of a better and a worse walk from the same node; or "prompts", the start nodes.
        best_share: share of the walks, by optimality, in "best".
        num_nodes, num_walks, max_length, edge_probability, graph_seed: of `WalkGraph`.
        batch_size: prompts in a batch.
        max_tokens: the budget of a batch of walks or pairs.
        seed: of pairs and of the order.
    """

    def __init__(
        self,
        content: Content = "walks",
        *,
        best_share: float = 0.2,
        num_nodes: int = 21,
        num_walks: int = 1000,
        max_length: int = 10,
        edge_probability: float = 0.1,
        graph_seed: int = 1002,
        batch_size: int = 20,
        max_tokens: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.content, self.best_share = content, best_share
        self.graph = walk_graph(num_nodes, num_walks, max_length, edge_probability, graph_seed)
        self.batch_size, self.max_tokens, self.seed = batch_size, max_tokens, seed

    def setup(self, stage: str | None = None) -> None:
        """Make the tokenizer: a letter for each node, and the start node as a message."""
        if self.tokenizer is None:
            self.tokenizer = Characters(_letters(range(self.graph.num_nodes)), SPECIAL_TOKENS)
            self.tokenizer.chat_template = SHIPPED["plain"]

    def batches(self, split: str) -> BatchLoader:
        """Return batches of the content; 10 % of the walks or pairs are validation and test."""
        if self.content == "prompts":
            return prompt_loader(self._prompts(), split, self.batch_size, self.seed)
        samples = self._pairs(split) if self.content == "pairs" else self._walks(split)
        return budget_loader(
            samples, split, max_tokens=self.max_tokens, max_edges=None, seed=self.seed
        )

    def _walks(self, split: str) -> SizedSamples:
        walks = self.graph.walks
        if self.content == "best":
            order = sorted(walks, key=self.graph.optimality, reverse=True)
            walks = order[: round(self.best_share * len(walks))]
        rows = [self._ids(walk) for walk in _part(walks, split)]
        return Ragged([row[:-1] for row in rows], [_labels(row)[1:] for row in rows])

    def _pairs(self, split: str) -> SizedSamples:
        random = np.random.default_rng(self.seed)
        pairs = []
        for walk in self.graph.walks:
            others = [other for other in self.graph.walks if other[0] == walk[0]]
            both = sorted((walk, others[random.integers(len(others))]), key=self.graph.optimality)
            if self.graph.optimality(both[0]) < self.graph.optimality(both[1]):
                pairs.append((both[1], both[0]))
        chosen = _part(pairs, split)
        rows = [self._ids(walk) for pair in chosen for walk in pair]
        labels = [np.append(_labels(row)[1:], IGNORE_INDEX) for row in rows]
        difference = np.array([len(a) - len(b) for a, b in chosen], np.int64)
        return PairSamples(Ragged(rows, labels), np.zeros(len(chosen), np.float32), difference)

    def _prompts(self) -> PromptSamples:
        starts = [node for node in range(self.graph.num_nodes) if node != GOAL]
        rows = [self._ids((node,))[:-1] for node in starts]
        return PromptSamples(rows, [_letters([node]) for node in starts], [""] * len(starts))

    def _ids(self, walk: tuple[int, ...]) -> np.ndarray:
        """Return <bos>, the nodes and <eos> as token ids."""
        tokenizer = self.need_tokenizer()
        nodes = tokenizer.encode(_letters(walk))
        ends = torch.tensor([tokenizer.need("bos"), tokenizer.need("eos")])
        return torch.cat([ends[:1], nodes, ends[1:]]).numpy()


def _letters(nodes: range | list[int] | tuple[int, ...]) -> str:
    return "".join(chr(ord("a") + node) for node in nodes)


def _labels(row: np.ndarray) -> np.ndarray:
    """Return the ids with -100 for <bos> and the start node."""
    return np.concatenate([[IGNORE_INDEX] * 2, row[2:]])


def _part(items: list, split: str) -> list:
    """Return every tenth item for validation and test, the others for training."""
    return [item for i, item in enumerate(items) if (i % 10 == 0) != (split == "train")]
