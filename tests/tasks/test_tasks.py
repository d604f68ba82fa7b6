"""Losses, metrics and gradients of the three tasks against sums by hand."""

import math
from collections.abc import Sequence

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_geometric.data import Data

import graphformer as gf
from graphformer.patterns import Causal, Complete
from graphformer.tasks import Classification, LanguageModeling, Regression, Task

CLASSES = 5


class Linear(nn.Module):
    """Mean over the neighbours, then a linear map; one row a node."""

    def __init__(self, features: int = 3, outputs: int = CLASSES) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, batch: Data, adjacency: gf.Adjacency) -> Tensor:
        mask = adjacency.to_mask().to(batch.x.dtype)
        return self.linear(mask @ batch.x / mask.sum(1, keepdim=True).clamp(min=1))


def node_batch(nodes: int, seed: int, labels: Sequence[int] | None = None) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 3, generator=generator)
    y = torch.randint(CLASSES, (nodes,), generator=generator)
    if labels is not None:
        kept = torch.zeros(nodes, dtype=torch.bool)
        kept[list(labels)] = True
        y = y.masked_fill(~kept, -100)
    return Data(x=x, y=y, lengths=(nodes,))


def trainer(**options: object) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )


class Batches(pl.LightningDataModule):
    def __init__(self, batches: list[Data]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def test_language_metrics_are_means_over_tokens():
    batches = [node_batch(7, 0), node_batch(11, 1, labels=[2, 3])]
    task = LanguageModeling(Linear(), characters_per_token=2.0)
    assert task.adjacency == Causal()
    (result,) = trainer().test(task, Batches(batches), verbose=False)
    with torch.no_grad():
        logits = torch.cat([task(batch) for batch in batches])
        loss = F.cross_entropy(logits, torch.cat([batch.y for batch in batches])).item()
    assert result["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert result["test/perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert result["test/bits_per_character"] == pytest.approx(loss / math.log(2) / 2, rel=1e-5)


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


def test_node_classification_counts_the_stage_mask():
    batch = node_batch(13, 0)
    masks = torch.arange(13)
    batch.train_mask, batch.val_mask, batch.test_mask = masks < 3, masks == 5, masks > 7
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    (result,) = trainer().test(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        logits = task(batch)[8:]
    right = (logits.argmax(1) == batch.y[8:]).float().mean().item()
    assert result["test/accuracy"] == pytest.approx(right)
    expected = F.cross_entropy(logits, batch.y[8:]).item()
    assert result["test/loss"] == pytest.approx(expected, rel=1e-5)


def test_auroc_of_two_classes_is_the_binary_one():
    batch = node_batch(17, 3)
    batch.y = batch.y % 2
    task = Classification(Linear(outputs=2), num_classes=2, level="node", metrics=["auroc"])
    (result,) = trainer().validate(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        score = task(batch).softmax(1)[:, 1]
    positive, negative = score[batch.y == 1], score[batch.y == 0]
    pairs = positive[:, None] - negative[None]
    expected = ((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean().item()
    assert result["val/auroc"] == pytest.approx(expected, abs=1e-6)


def test_regression_metrics():
    batch = node_batch(11, 0)
    batch.y = torch.randn(11)
    task = Regression(Linear(outputs=1), level="node", loss="mae")
    (result,) = trainer().test(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        error = task(batch)[:, 0] - batch.y
    assert result["test/mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert result["test/rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)


def test_learning_rate_changes_with_every_step():
    rates: list[float] = []

    class Spy(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    task = LanguageModeling(Linear(), lr=0.1, schedule="linear", warmup_steps=2)
    batches = Batches([node_batch(7, seed) for seed in range(3)])
    trainer(max_epochs=2, callbacks=[Spy()]).fit(task, batches)
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])


def test_schedule_needs_an_end():
    task = LanguageModeling(Linear(), schedule="cosine")
    with pytest.raises(ValueError, match=r"schedule 'cosine' .* max_steps nor max_epochs"):
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


def test_wrong_level_is_named():
    batch = node_batch(7, 0)
    batch.y = torch.zeros(1, dtype=torch.int64)
    task: Task = Classification(Linear(), Complete(), num_classes=CLASSES)
    with pytest.raises(ValueError, match="level='graph': the network gave 7 rows for 1 labels"):
        trainer().validate(task, Batches([batch]), verbose=False)


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match="metrics must be among .* got 'acuracy'"):
        Classification(Linear(), num_classes=2, metrics=["acuracy"])  # type: ignore[list-item]
