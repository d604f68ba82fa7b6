"""`PathOptimality`: how close a walk of letters is to a shortest path, for `RandomWalks`."""

from __future__ import annotations

from collections.abc import Sequence

from graphformer.data.text.post_training.walks import walk_graph
from graphformer.tasks.post_training.rewards import Completion


class PathOptimality:
    """The optimality of prompt and answer as a path to node "a", in [0, 1]; see `WalkGraph`.

    Args:
        num_nodes, num_walks, max_length, edge_probability, seed: of `WalkGraph`.
    """

    def __init__(
        self,
        num_nodes: int = 21,
        num_walks: int = 1000,
        max_length: int = 10,
        edge_probability: float = 0.1,
        seed: int = 1002,
    ) -> None:
        self.graph = walk_graph(num_nodes, num_walks, max_length, edge_probability, seed)

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number for each answer."""
        paths = [
            tuple(ord(letter) - ord("a") for letter in c.prompt + c.answer) for c in completions
        ]
        return [self.graph.optimality(path) for path in paths]
