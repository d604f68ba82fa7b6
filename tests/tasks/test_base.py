"""Options, accumulation, prediction and schedules that all tasks share."""

from __future__ import annotations

import copy
import inspect
from typing import get_type_hints

import lightning.pytorch as pl
import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from lightning.pytorch.callbacks import LearningRateFinder
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer import data, models, patterns, tasks
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.patterns import Causal, Complete
from graphformer.tasks import Classification, LanguageModeling, Task, TaskOptions
from graphformer.tasks.labels import convert_floats

OF_SUBCLASSES = {
    "Classification": {"num_classes": 3},
    "EdgeClassification": {"num_classes": 3, "dim": 5},
}


NAMES = sorted(set(tasks.__all__) - {"Task", "TaskOptions", "ImageTextContrast"})


@pytest.mark.parametrize("name", NAMES)
def test_misspelt_options_are_refused_by_name(name: str):
    networks = [nn.Identity()] * (2 if name == "ReplacedTokenDetection" else 1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected option 'weight_deccay'"):
        getattr(tasks, name)(*networks, **OF_SUBCLASSES.get(name, {}), weight_deccay=0.1)


def test_declared_options_are_those_of_the_constructor():
    parameters = inspect.signature(Task).parameters
    own = {
        name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert own == TaskOptions.__annotations__.keys()
    hints = get_type_hints(Task.__init__)
    assert {name: hints[name] for name in own} == get_type_hints(TaskOptions)


@pytest.mark.parametrize("micro", [2, 3])
def test_accumulated_gradient_is_that_of_one_mean(micro: int):
    """Batches with 7, 2, 13 (and none at all) labels; the last accumulation may be short."""
    batches = [
        node_batch(7, 0),
        node_batch(11, 1, labels=[2, 3]),
        node_batch(13, 2),
        node_batch(5, 3, labels=[]),
    ]
    task = LanguageModeling(Linear(), lr=1e-2)
    seen: list[Tensor] = []

    class Spy(pl.Callback):
        def on_before_zero_grad(self, trainer, task, optimizer):
            if task.network.linear.weight.grad is not None:
                seen.append(task.network.linear.weight.grad.clone())

        def on_train_start(self, trainer, task):
            self.initial = {k: v.clone() for k, v in task.network.state_dict().items()}

    spy = Spy()
    trainer(accumulate_grad_batches=micro, callbacks=[spy], max_steps=1).fit(task, Batches(batches))
    oracle = Linear()
    oracle.load_state_dict(spy.initial)
    logits = torch.cat([oracle(b, Causal()(b)) for b in batches[:micro]])
    F.cross_entropy(logits, torch.cat([b.y for b in batches[:micro]])).backward()
    got = task.network.linear.weight.grad if not seen else seen[-1]
    assert got is not None
    torch.testing.assert_close(got, oracle.linear.weight.grad, rtol=1e-4, atol=1e-6)


def test_schedule_needs_an_end():
    task = LanguageModeling(Linear(), schedule="cosine")
    with pytest.raises(
        ValueError, match=r"schedule: got 'cosine' and a trainer without a last step"
    ):
        trainer(max_epochs=-1).fit(task, Batches([node_batch(7, 0)]))


def test_adjacency_can_be_exchanged_and_prediction_follows():
    batch = node_batch(7, 0)
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    (complete,) = trainer().predict(task, Batches([batch]))
    task.adjacency = Causal()
    (causal,) = trainer().predict(task, Batches([batch]))
    assert complete.shape == causal.shape == (7, CLASSES)
    torch.testing.assert_close(causal[-1], complete[-1])
    assert not torch.allclose(causal[0], complete[0])


def test_learning_rate_changes_with_every_step():
    rates: list[float] = []

    class Spy(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    task = LanguageModeling(Linear(), lr=0.1, schedule="linear", warmup_steps=2)
    batches = Batches([node_batch(7, seed) for seed in range(3)])
    trainer(max_epochs=2, callbacks=[Spy()]).fit(task, batches)
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])


PRECISIONS = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}


@pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())
@pytest.mark.parametrize("task_type", [LanguageModeling, Classification])
def test_gradients_are_clipped_in_every_precision(precision: str, dtype: torch.dtype, task_type):
    options = {} if task_type is LanguageModeling else {"num_classes": CLASSES, "level": "node"}
    task = task_type(Linear(), lr=0.1, **options)
    norms: list[Tensor] = []

    class Spy(pl.Callback):
        def on_before_zero_grad(self, trainer, task, optimizer):
            gradients = [p.grad.flatten() for p in task.parameters() if p.grad is not None]
            norms.extend([torch.cat(gradients).norm()] if gradients else [])

    batches = [node_batch(7, 0), node_batch(11, 1)]
    clipped = trainer(precision=precision, gradient_clip_val=1e-3, callbacks=[Spy()])
    clipped.fit(task, Batches(batches))
    assert {p.dtype for p in task.parameters()} == {dtype}
    assert norms
    assert max(norms).item() == pytest.approx(1e-3, rel=0.02)
    assert {batch.x.dtype for batch in batches} == {torch.float32}


def test_double_precision_extends_to_the_loss():
    batch = node_batch(7, 0)
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    fitted = trainer(precision="64-true", max_steps=1, callbacks=[])
    expected = F.cross_entropy(
        copy.deepcopy(task.network).double()(
            Data(x=batch.x.double(), lengths=(7,)), Complete()(batch)
        ),
        batch.y,
    )
    (result,) = fitted.validate(task, Batches([batch]), verbose=False)
    assert result["val/loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_narrow_precision_keeps_the_labels():
    y = torch.tensor([1.001, 2.003])
    batch = convert_floats(Data(x=torch.ones(2, 3), y=y, pos=torch.arange(2)), torch.bfloat16)
    assert (batch.x.dtype, batch.pos.dtype) == (torch.bfloat16, torch.int64)
    assert torch.equal(batch.y, y)


@pytest.mark.parametrize("num_batches", [None, 4])
def test_overfitting_repeats_the_same_batches(num_batches: int | None):
    class Nodes:
        def __len__(self):
            return 23

        def __getitem__(self, index):
            return node_batch(3, int(index[0]))

    seen: list[list[float]] = []

    class Spy(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            seen.append(batch.x.flatten().tolist())

    loaders = [
        BatchLoader(Nodes(), BatchSampler(23, 5, shuffle=shuffle, num_batches=num_batches))
        for shuffle in (True, False)
    ]
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    fitted = trainer(overfit_batches=2, max_epochs=3, callbacks=[Spy()])
    fitted.fit(task, *loaders)
    assert seen[0] != seen[1]
    assert seen == seen[:2] * 3


def test_each_validation_loader_has_its_own_metrics():
    batches = [node_batch(7, 0), node_batch(11, 1)]
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    alone = [
        trainer().validate(task, Batches([batch]), verbose=False)[0]["val/loss"]
        for batch in batches
    ]
    loaders = [Batches([batch]).train_dataloader() for batch in batches]
    first, second = trainer().validate(task, loaders, verbose=False)
    assert first["val/loss"] == pytest.approx(alone[0])
    assert second["val/loss/dataloader_idx_1"] == pytest.approx(alone[1])


def test_the_rate_that_the_finder_finds_is_used():
    class Rates(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    task = Classification(Linear(), num_classes=CLASSES, level="node", lr=1e-3)
    finder, rates = LearningRateFinder(num_training_steps=20, early_stop_threshold=None), Rates()
    data = Batches([node_batch(7, seed) for seed in range(5)] * 5)
    trainer(max_steps=3, callbacks=[finder, rates]).fit(task, data)
    found = finder.optimal_lr.suggestion()
    assert found != 1e-3
    assert rates.seen[-3:] == pytest.approx([found] * 3)


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_same_network():
    rings = {"num_nodes": 5, "num_classes": 3, "batch_size": 7, "train_size": 21, "test_size": 7}
    states = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        network = models.gat(5, 3, dim=4, num_heads=2, dropout=0.0)
        pattern = patterns.Edges() | patterns.SelfLoops()
        task = Classification(network, pattern, num_classes=3, level="node", compile=is_compiled)
        trainer(max_steps=3, limit_val_batches=0).fit(task, data.RingTransfer(**rings))
        states.append(dict(task.state_dict()))
    torch.testing.assert_close(*states)
