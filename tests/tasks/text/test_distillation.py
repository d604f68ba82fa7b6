"""Distillation of a complete teacher into a sparse student: losses, weights, training."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.tasks import Batches, trainer
from torch import nn
from torch.nn import functional as F

from graphformer import models
from graphformer.data.batch import pack_tokens
from graphformer.nn.record import record_attention
from graphformer.patterns import Complete, TopBlocks, Window
from graphformer.tasks import Distillation
from graphformer.tasks.text.distillation import attention_loss, hidden_loss, value_loss

SPARSE = Window(1)


def _network(seed: int = 0) -> models.Model:
    torch.manual_seed(seed)
    return models.sentence_embedder(19, dim=12, depth=2, num_heads=3, max_length=31)


def _batch(lengths=(11, 1, 7), seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return pack_tokens([torch.randint(19, (n,), generator=generator).tolist() for n in lengths])


def _task(**options) -> Distillation:
    """Return a task whose teacher is a copy of the network, without files."""
    network = _network()
    task = Distillation(network, SPARSE, **options)
    task._teacher = (copy.deepcopy(network).requires_grad_(False).eval(),)
    return task


def test_same_adjacency_and_weights_have_no_loss() -> None:
    weights = {"output": 1.0, "hidden": 1.0, "attention": 1.0, "values": 1.0}
    task = _task(teacher_adjacency=SPARSE, **weights)
    loss, cosine = task._compare(_batch())
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-5, rtol=0)
    torch.testing.assert_close(cosine, torch.ones(3))


@pytest.mark.parametrize("part", ["output", "hidden", "attention", "values"])
def test_each_part_alone_is_positive_and_trains_the_student_only(part: str) -> None:
    weights = dict.fromkeys(("output", "hidden", "attention", "values"), 0.0) | {part: 2.0}
    task = _task(**weights)
    loss, _ = task._compare(_batch())
    half, _ = _task(**(weights | {part: 1.0}))._compare(_batch())
    assert loss > 0
    torch.testing.assert_close(loss, 2 * half)
    loss.backward()
    assert task.network.transformer.blocks[0].attention.qkv.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in task._teacher[0].parameters())


def test_hidden_loss_is_the_relative_squared_error() -> None:
    own, goal = torch.randn(2, 3, 7, 5)
    expected = sum(((h - g) ** 2).sum() / (g**2).sum() for h, g in zip(own, goal, strict=True)) / 3
    torch.testing.assert_close(hidden_loss(list(own), list(goal)), expected)


def test_attention_loss_is_the_divergence_on_the_edges_of_the_student() -> None:
    network, batch = _network(), _batch((5,))
    with record_attention(network.transformer.blocks[-1]) as (records):
        network(batch, Complete())
        network(batch, SPARSE)
    teacher, student = records
    p = teacher.weights.T.reshape(3, 5, 5)
    q = torch.zeros(3, 5, 5)
    source, target = student.adjacency.edge_index
    q[:, target, source] = student.weights.T
    p = torch.where(q > 0, p, 0)
    p = p / p.sum(-1, keepdim=True)
    expected = (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum() / 15
    torch.testing.assert_close(attention_loss(student, teacher), expected)


def test_value_loss_is_the_divergence_of_the_relations_within_samples() -> None:
    own, goal = torch.randn(2, 9, 2, 4)
    expected = torch.zeros(())
    for part in (slice(0, 4), slice(4, 9)):
        for head in range(2):
            p, q = ((v[part, head] @ v[part, head].T / 2).softmax(-1) for v in (goal, own))
            expected = expected + (p * (p / q).log()).sum() / 18
    torch.testing.assert_close(value_loss(own, goal, (4, 5)), expected)


def test_edges_made_from_content_can_be_trained() -> None:
    task = _task()
    task.adjacency = TopBlocks(2, 2)
    task._compare(_batch())[0].backward()
    assert task.network.transformer.blocks[0].attention.qkv.weight.grad.isfinite().all()


def test_training_raises_the_cosine_and_stores_the_student_only(tmp_path) -> None:
    source = _network(1)
    checkpoint = tmp_path / "teacher.ckpt"
    state = {f"network.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    task = Distillation(_network(2), SPARSE, pretrained=str(checkpoint), lr=1e-2)
    runner = trainer(max_epochs=13)
    data = Batches([_batch(seed=seed) for seed in range(3)])
    (before,) = runner.validate(task, data, verbose=False)
    runner.fit(task, data)
    (after,) = runner.validate(task, data, verbose=False)
    assert after["val/cosine"] > before["val/cosine"]
    assert after["val/loss"] < before["val/loss"]
    assert all(name.startswith("network.") for name in task.state_dict() if "metrics" not in name)
    teacher = task._teacher[0].state_dict()
    assert all(torch.equal(teacher[name], value) for name, value in source.state_dict().items())


def test_a_teacher_and_a_weight_are_needed() -> None:
    with pytest.raises(ValueError, match="^teacher: got None and no pretrained"):
        Distillation(_network(), SPARSE).setup("fit")
    for weights in ({"output": 0.0, "hidden": 0.0}, {"values": -1.0}):
        with pytest.raises(ValueError, match="one of them above 0"):
            Distillation(_network(), SPARSE, **weights)


def test_values_need_multi_head_attention() -> None:
    task = _task(values=1.0)
    task.network.transformer.blocks[-1].attention = nn.Identity()
    with pytest.raises(ValueError, match="^values: got a weight above 0 for Identity"):
        task._compare(_batch())


def test_outputs_by_node_are_compared_by_node() -> None:
    task = _task(hidden=0.0)
    task.network.head, task._teacher[0].head = None, None
    loss, cosine = task._compare(_batch())
    assert cosine.shape == (19,)
    own, goal = (
        n(_batch(), p) for n, p in ((task.network, SPARSE), (task._teacher[0], Complete()))
    )
    torch.testing.assert_close(loss, 1 - F.cosine_similarity(own, goal, dim=-1).mean())
