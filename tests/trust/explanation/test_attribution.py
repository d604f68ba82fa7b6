"""Attributions of a function with known ones, and the section on a small ViT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.trust import given_run
from scipy.stats import sem
from torch import nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.adjacency import from_edge_index
from graphformer.data import Digits
from graphformer.data.batch import pack_nodes
from graphformer.nn.record import AttentionRecord
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Classification
from graphformer.trust import Run
from graphformer.trust.explanation import (
    Explained,
    attention_ranks,
    fidelity,
    gnn_explainer,
    gradient_times_input,
    integrated_gradients,
    overlap,
    replaced_output,
    top_nodes,
)
from graphformer.trust.sections import explanation_section

WEIGHT = torch.tensor([1.0, -2.0, 3.0])


def score(x):
    """Samples of 2 and 3 nodes: sum over nodes of (w . x)^2."""
    squares = (x @ WEIGHT).square()
    return torch.stack([part.sum() for part in squares.split([2, 3])])


def nodes():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_attributions_of_a_square():
    x = nodes()
    squares = (x @ WEIGHT).square()
    assert torch.allclose(gradient_times_input(score, x), 2 * squares, rtol=1e-4)


def test_integrated_gradients_add_up_to_the_score():
    pytest.importorskip("captum", reason='needs the extra "trust"')
    x = nodes()
    squares = (x @ WEIGHT).square()  # the quadrature is exact for a linear gradient
    assert torch.allclose(integrated_gradients(score, x, steps=3), squares, rtol=1e-4)


def test_fidelity_by_hand():
    x = nodes()
    squares = (x @ WEIGHT).square()
    chosen = torch.tensor([True, False, False, True, True])
    plus, minus = fidelity(score, x, chosen)
    first, second = squares.split([2, 3])
    assert torch.allclose(plus, torch.stack([first[0], second[1] + second[2]]), rtol=1e-4)
    assert torch.allclose(minus, torch.stack([first[1], second[0]]), rtol=1e-4, atol=1e-5)


def test_the_top_nodes_are_chosen_by_sample():
    values = torch.tensor([1.0, 5.0, 9.0, 8.0, 7.0, 6.0])
    assert top_nodes(values, (2, 0, 4), 0.5).tolist() == [False, True, True, True, False, False]


def test_the_hook_is_removed():
    module = nn.Linear(2, 2)
    with replaced_output(module, torch.zeros(3)):
        assert module(torch.ones(2)).shape == (3,)
    assert module(torch.ones(2)).shape == (2,)


def test_the_learned_mask_prefers_the_nodes_that_decide():
    x = torch.ones(7, 3)

    def logits(rows):
        return torch.stack([rows[2].sum(), rows[5].sum() * 0], dim=0)[None] * 3

    mask = gnn_explainer(logits, x, epochs=100, seed=1)
    assert mask.argmax() == 2
    assert torch.equal(mask, gnn_explainer(logits, x, epochs=100, seed=1))


def test_overlap_by_hand():
    one, other = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert overlap(one, other) == 1 / 3
    assert overlap(one, one) == 1


def test_rank_of_known_matrices():
    # A sample of 2 nodes with equal rows, rank 1, and one of 3 nodes with a diagonal, rank 3.
    edges = torch.tensor([[0, 1, 0, 1, 2, 3, 4], [0, 0, 1, 1, 2, 3, 4]])
    adjacency = from_edge_index(edges, num_nodes=5)
    weights = torch.tensor([0.5, 0.5, 0.5, 0.5, 1, 1, 1])[:, None]
    ranks = attention_ranks(AttentionRecord("", adjacency, weights), [2, 3])
    assert ranks.tolist() == [[0.5], [1.0]]


def small_vit(tokens: int = 0) -> Run:
    data = Digits(patch_size=2, batch_size=11)
    data.setup()
    pool = {"pool": "cls", "tokens": tokens} if tokens else {}
    network = models.vit(10, 8, 1, 2, channels=1, patch_size=2, **pool)
    return Run(Classification(network, Complete(), num_classes=10).eval(), data, max_batches=2)


def test_integrated_gradients_of_a_packed_batch_are_those_of_each_sample_alone():
    pytest.importorskip("captum", reason='needs the extra "trust"')
    run = small_vit()
    explained = Explained(run.task, next(run.batches("test")))
    found = integrated_gradients(explained.score, explained.x, steps=5)
    points, weights = np.polynomial.legendre.leggauss(5)  # of an integral from -1 to 1
    total = torch.zeros_like(explained.x)
    for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
        x = ((point + 1) / 2 * explained.x).requires_grad_(True)
        (gradient,) = torch.autograd.grad(explained.score(x)[3], x)
        total += weight / 2 * gradient
    start = sum(explained.sizes[:3])
    own = slice(start, start + explained.sizes[3])
    expected = (total * explained.x).sum(1)
    torch.testing.assert_close(found[own], expected[own], rtol=1e-4, atol=1e-7)
    assert not expected[:start].any()  # no influence between samples


def test_rollout_of_uniform_attention_is_uniform():
    run = small_vit()
    for parameter in run.task.network.transformer.parameters():
        torch.nn.init.zeros_(parameter)  # equal logits: uniform weights
    explained = Explained(run.task, next(run.batches("test")))
    found = explained._by_attention()
    for values in found.values():
        torch.testing.assert_close(values, torch.full_like(values, 1 / 16))


def test_the_section_compares_with_a_random_choice():
    run = small_vit()
    section = explanation_section(run)
    names = [row[0] for row in section.tables[0].rows]
    assert names[:3] == ["attention of the last block", "attention rollout", "gradient times input"]
    assert names[-1] == "random"
    _, plus, above, error, _ = section.tables[0].rows[2]
    gradients, chance = [], []
    for number, batch in enumerate(run.batches("test")):
        explained = Explained(run.task, batch)
        found, _ = explained.attributions(number)
        for values, name in ((gradients, names[2]), (chance, "random")):
            chosen = top_nodes(found[name], explained.sizes, 0.2)
            values += fidelity(explained.score, explained.x, chosen)[0].tolist()
    difference = np.array(gradients) - np.array(chance)
    assert len(difference) == 22  # two batches
    assert plus == pytest.approx(np.mean(gradients), abs=1e-6)
    assert above == pytest.approx(difference.mean(), abs=1e-6)
    assert error == pytest.approx(sem(difference), abs=1e-6)
    agreement = torch.tensor([row[1:] for row in section.tables[1].rows])
    assert torch.equal(agreement, agreement.T)
    assert section.tables[2].title == "Rank of attention matrices"
    assert any(figure.title == "Attributions of the first sample" for figure in section.figures)


def test_nodes_of_a_graph_are_explained_by_their_receptive_field():
    edges = torch.tensor([[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]])
    graph = Data(x=torch.randn(7, 3), edge_index=edges, y=torch.zeros(7).long(), lengths=(7,))
    network = models.gat(3, 2, dim=4, num_heads=2, depth=2)
    task = Classification(network, Edges(self_loops=True), num_classes=2, level="node").eval()
    explained = Explained(task, graph, node=0)
    found, _ = explained.attributions(0)
    for values in found.values():
        assert values.isfinite().tolist() == [True, True, True, False, False, False, False]
    assert explained.candidates() == pytest.approx(3 / 7)


def test_tasks_without_classes_are_named():
    run = given_run({"test": (torch.ones(3, 2), torch.ones(3, 2))})
    assert explanation_section(run).notes[0].startswith("Attributions explain classes")


class ThirdBefore(nn.Module):
    """The class of a node is the sign of the first feature of the node two places before it."""

    def forward(self, batch, adjacency):
        values = batch.x[:, 0].roll(2)
        return torch.stack([torch.zeros_like(values), values], dim=1)


def test_a_node_of_a_later_sample_is_explained():
    batch = pack_nodes(nodes().repeat(3, 1), [4, 5, 6])
    task = Classification(ThirdBefore(), Complete(), num_classes=2, level="node").eval()
    explained = Explained(task, batch, node=8)
    assert explained.sample() == slice(4, 9)
    found, _ = explained.attributions(seed=0)
    for values in found.values():
        assert values.isfinite().nonzero().flatten().tolist() == [6]  # all that it depends on
    chosen = top_nodes(found["random"], explained.groups, explained.candidates())
    assert chosen.nonzero().flatten().tolist() == [6]


def test_attention_of_a_node_of_a_later_sample():
    x = torch.randn(9, 3)
    network = models.graph_transformer(3, 2, dim=8, num_heads=2, depth=1)
    task = Classification(network, Complete(), num_classes=2, level="node").eval()
    for values in Explained(task, pack_nodes(x, [4, 5]), node=6)._by_attention().values():
        assert not values[:4].any()
        assert values[4:].sum() == pytest.approx(1)
