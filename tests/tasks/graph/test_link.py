"""Tasks on pairs of nodes."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_geometric.data import Data

import graphformer as gf
from graphformer.data.graph.link_splits import split_links
from graphformer.patterns import Edges, SelfLoops
from graphformer.tasks import EdgeClassification, LinkPrediction
from graphformer.tasks.graph.link import HitsAtK, hide_edges, sample_non_edges


class Spy(nn.Module):
    """A linear map that records the edges of each call."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.seen: list[tuple[Tensor, gf.Adjacency]] = []

    def forward(self, batch: Data, adjacency: gf.Adjacency) -> Tensor:
        self.seen.append((batch.edge_index, adjacency))
        return self.linear(batch.x)


class One(pl.LightningDataModule):
    def __init__(self, batch: Data) -> None:
        super().__init__()
        self.batch = batch

    def train_dataloader(self) -> DataLoader:
        return DataLoader([self.batch], batch_size=None)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def trainer(**options: object) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 1, **options},
    )


def graph() -> Data:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(31, (2, 211), generator=generator)
    split = split_links(edges, 31, val_fraction=0.1, test_fraction=0.1, seed=0)
    return Data(x=torch.randn(31, 3, generator=generator), **split)


def keys(edges: Tensor) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in edges.T.tolist()}


def test_the_network_reads_no_predicted_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = graph()
    task = LinkPrediction(Spy(), Edges(), predicted_fraction=0.3)
    scored: list[Tensor] = []
    scores = LinkPrediction.scores

    def spied(self: LinkPrediction, batch: Data, pairs: Tensor) -> Tensor:
        scored.append(pairs)
        return scores(self, batch, pairs)

    monkeypatch.setattr(LinkPrediction, "scores", spied)
    before = batch.edge_index.clone()
    trainer(max_epochs=5).fit(task, One(batch))
    trainer().test(task, One(batch), verbose=False)
    assert len(scored) == len(task.network.seen) == 11
    train = keys(batch.train_edge_label_index)
    for pairs, (edges, adjacency) in zip(scored, task.network.seen, strict=True):
        shown = keys(edges)
        assert shown == keys(adjacency.edge_index)
        assert shown.isdisjoint(keys(pairs))
        assert shown <= train
    predicted = [keys(pairs) & train for pairs in scored[0:10:2]]
    count = round(0.3 * len(train))
    assert [len(edges) for edges in predicted] == [count] * 5
    assert predicted[0] != predicted[1]
    assert torch.equal(batch.edge_index, before)  # the graph itself is as it was


def test_metrics_are_those_of_all_pairs() -> None:
    batch = graph()
    task = LinkPrediction(Spy(), Edges(), hits=3)
    (result,) = trainer().test(task, One(batch), verbose=False)
    with torch.no_grad():
        logits = task.scores(batch, batch.test_edge_label_index)
    label = batch.test_edge_label.bool()
    positive, negative = logits[label], logits[~label]
    difference = positive[:, None] - negative[None]
    auc = ((difference > 0).float() + 0.5 * (difference == 0).float()).mean().item()
    assert result["test/auc"] == pytest.approx(auc, abs=1e-6)
    third = negative.sort(descending=True).values[2]
    assert result["test/hits@3"] == pytest.approx((positive > third).float().mean().item())
    loss = F.binary_cross_entropy_with_logits(logits, label.float()).item()
    assert result["test/loss"] == pytest.approx(loss, rel=1e-5)
    (predicted,) = trainer().predict(task, One(batch))
    torch.testing.assert_close(predicted, logits)


def test_hits_over_several_batches() -> None:
    metric = HitsAtK(2)
    metric.update(torch.tensor([0.9, 0.1, 0.8]), torch.tensor([1, 0, 0]))
    metric.update(torch.tensor([0.5, 0.6, 0.55]), torch.tensor([1, 0, 1]))
    assert metric.compute() == pytest.approx(1 / 3)  # the second-best negative has 0.6
    few = HitsAtK(7)
    few.update(torch.tensor([0.1, 0.9]), torch.tensor([1, 0]))
    assert few.compute() == 1
    with pytest.raises(ValueError, match="hits: got 0, expected 1 or more"):
        HitsAtK(0)


def test_sampled_pairs_and_hidden_edges() -> None:
    torch.manual_seed(0)
    edges = torch.combinations(torch.arange(11))[:40].T
    kept, hidden = hide_edges(edges, 0.25)
    assert (kept.shape[1], hidden.shape[1]) == (30, 10)
    assert keys(kept) | keys(hidden) == keys(edges)
    assert hide_edges(edges, 1e-9)[1].shape[1] == 1
    pairs = sample_non_edges(edges, 11, 13)
    assert keys(pairs).isdisjoint(keys(edges))
    assert (pairs[0] != pairs[1]).all()
    complete = torch.combinations(torch.arange(5)).T
    assert sample_non_edges(complete, 5, 7).shape == (2, 0)


def test_copies_of_an_edge_are_hidden_together() -> None:
    torch.manual_seed(0)
    edges = torch.combinations(torch.arange(11)).T
    again = torch.cat([edges, edges.flip(0), edges[:, :7]], dim=1)
    kept, hidden = hide_edges(again, 0.4)
    assert keys(kept).isdisjoint(keys(hidden))
    assert len(keys(hidden)) == 22
    assert kept.shape[1] + hidden.shape[1] == again.shape[1]


def test_the_fraction_of_predicted_edges_is_checked() -> None:
    with pytest.raises(ValueError, match="predicted_fraction: got 0.0, expected above 0"):
        LinkPrediction(Spy(), predicted_fraction=0.0)


def test_edges_are_classified_by_their_two_ends() -> None:
    torch.manual_seed(0)
    nodes = torch.randn(31, 3)
    index = torch.randint(31, (2, 97))
    label = (nodes[index[0], 0] > nodes[index[1], 0]).long()  # depends on the direction
    masks = torch.arange(97) % 3
    batch = Data(
        x=nodes,
        edge_index=index,
        edge_label_index=index,
        edge_label=label,
        train_edge_mask=masks == 0,
        val_edge_mask=masks == 1,
        test_edge_mask=masks == 2,
    )
    task = EdgeClassification(Spy(5), SelfLoops(), dim=5, num_classes=2, lr=0.05)
    trainer(max_epochs=150).fit(task, One(batch))
    (result,) = trainer().test(task, One(batch), verbose=False)
    with torch.no_grad():
        logits = task(batch)
    right = (logits.argmax(1) == label)[masks == 2].float().mean().item()
    assert logits.shape == (97, 2)
    assert result["test/accuracy"] == pytest.approx(right)
    assert right > 0.75
    wrong = EdgeClassification(Spy(5), SelfLoops(), dim=7, num_classes=2)
    with pytest.raises(ValueError, match="embeddings of width 5, expected dim=7; set"):
        wrong(batch)


def test_options_are_checked_by_name() -> None:
    with pytest.raises(TypeError, match="LinkPrediction.*'predicted_fration': did you mean"):
        LinkPrediction(Spy(), predicted_fration=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="EdgeClassification.*'label_smothing': did you mean"):
        EdgeClassification(Spy(), dim=5, num_classes=2, label_smothing=0.1)  # type: ignore[call-arg]
    with pytest.warns(FutureWarning, match="predicted .* is now called predicted_fraction"):
        assert LinkPrediction(Spy(), predicted=0.5).predicted_fraction == 0.5  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.tensor([[1.0, 0.0], [1.0, 1.0]]), r"labels of shape \(2, 2\) and torch.float32"),
        (torch.tensor([0.0, 1.0]), "torch.float32, expected one integer class"),
        (torch.tensor([0, 2]), "got the class 2, expected 0 to 1 or -100"),
        (torch.tensor([0, -1]), "got the class -1, expected 0 to 1"),
    ],
)
def test_labels_that_are_no_classes_are_refused(label: Tensor, message: str) -> None:
    index = torch.tensor([[0, 1], [1, 2]])
    batch = Data(x=torch.randn(3, 3), edge_index=index, edge_label_index=index, edge_label=label)
    task = EdgeClassification(Spy(5), SelfLoops(), dim=5, num_classes=2)
    with pytest.raises(ValueError, match=message):
        task.training_step(batch, 0)
