"""Random walks: the graph, optimality by hand, batches of the four kinds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphformer.data import RandomWalks
from graphformer.data.text.post_training.walks import WalkGraph


def test_walks_follow_edges_to_the_goal() -> None:
    graph = WalkGraph()
    assert len(graph.walks) == 1000
    for walk in graph.walks:
        assert walk[0] != 0
        assert len(walk) == 10 or walk[-1] == 0
        assert all(graph.edges[a, b] for a, b in itertools.pairwise(walk))
    assert graph.edges[0].tolist() == [True] + [False] * 20
    assert not np.diag(graph.edges)[1:].any()
    assert WalkGraph().walks == graph.walks
    assert WalkGraph(seed=3).walks != graph.walks


def test_optimality() -> None:
    graph = WalkGraph(num_nodes=4, num_walks=1, max_length=5)
    graph.edges = np.zeros((4, 4), bool)
    for a, b in ((1, 0), (2, 1), (3, 2), (3, 1), (0, 0)):
        graph.edges[a, b] = True
    assert graph.shortest.tolist() == [1, 2, 3, 3]
    assert graph.optimality((3, 1, 0)) == 1
    assert graph.optimality((3, 2, 1, 0)) == 0.5
    assert graph.optimality((3, 1, 0, 3)) == 1  # what follows the goal does not count
    assert graph.optimality((3, 1)) == 0
    assert graph.optimality((3, 0)) == 0  # there is no such edge
    assert graph.optimality((3, 99, 0)) == 0


@pytest.mark.parametrize("content", ["walks", "best", "pairs"])
def test_batches_of_walks(content: str) -> None:
    data = RandomWalks(content)
    data.setup()
    assert data.vocab_size == 27
    batch = next(iter(data.train_dataloader()))
    optimality = []
    rows = zip(batch.x.split(list(batch.lengths)), batch.y.split(list(batch.lengths)), strict=True)
    for ids, labels in rows:
        answer = labels[labels != -100]
        assert answer[-1] == data.need_tokenizer().eos_id
        assert ids[0] == data.need_tokenizer().bos_id
        path = data.decode(ids[1:2]) + data.decode(answer)
        optimality.append(data.graph.optimality(tuple(ord(c) - ord("a") for c in path)))
    if content == "best":
        assert min(optimality) == 1
    if content == "pairs":
        assert all(a > b for a, b in zip(optimality[::2], optimality[1::2], strict=True))
        starts = [ids[1] for ids in batch.x.split(list(batch.lengths))]
        assert starts[::2] == starts[1::2]


def test_prompts_are_the_start_nodes() -> None:
    data = RandomWalks("prompts", batch_size=20)
    data.setup()
    (batch,) = data.val_dataloader()
    assert "".join(batch.prompts) == "bcdefghijklmnopqrstu"
    assert data.decode(batch.x) == "".join(batch.prompts)
