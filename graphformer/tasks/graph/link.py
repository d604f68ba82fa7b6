"""Tasks on pairs of nodes: link prediction and edge classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import Unpack

from graphformer.deprecated import renamed_keywords
from graphformer.options import checked_options
from graphformer.patterns import Edges, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.classification import Classification, ClassificationOptions, MetricName
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class LinkPrediction(Task):
    """Predict which pairs of nodes have an edge, by the logistic loss of x_i . x_j.

    The batch is one graph with `edge_index` [2, E], the training edges in both directions, and
    `train_edge_label_index` [2, P], each of them once. For validation and testing it has
    `val_edge_label_index` [2, P] and `val_edge_label` [P], 1 for an edge and 0 for none, and the
    same for "test".

    The network does not read the edges that it predicts: each training step removes a random
    fraction of the training edges, in both directions, and predicts them and as many sampled pairs
    without an edge. Validation and testing read all training edges.

    Args:
        network: from a batch to node embeddings [N, K].
        adjacency: the adjacency, from the training edges.
        predicted_fraction: fraction of the training edges that a step removes and predicts.
        hits: K of hits@K, the fraction of edges with a higher score than the K-th highest of the
            pairs without an edge.
        options: of `Task`.

    Attributes:
        predict_split: whose pairs `predict_step` scores: "train" (edges only), "val" or "test".

    Raises:
        ValueError: for a fraction of 0 or less or above 1, and for `hits` below 1.

    Source: Kipf and Welling, 2016 (GAE); hits@K: Hu et al., 2020 (OGB).
    """

    @renamed_keywords(predicted="predicted_fraction")
    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Edges(self_loops=True),
        *,
        predicted_fraction: float = 0.3,
        hits: int = 20,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if not 0 < predicted_fraction <= 1:
            raise ValueError(
                f"predicted_fraction: got {predicted_fraction}, expected above 0 and at most 1"
            )
        self.predicted_fraction = predicted_fraction
        self.predict_split = "test"
        ranking = {
            "auc": BinaryAUROC(),
            "ap": BinaryAveragePrecision(),
            f"hits@{hits}": HitsAtK(hits),
        }
        self.add_metrics({"loss": Mean(), **ranking})

    def scores(self, batch: BatchLike, pairs: Tensor) -> Tensor:
        """Return the logits [P] of edges between the pairs [2, P]: x_i . x_j."""
        x = at_least_float32(self(batch))
        return (x[pairs[0]] * x[pairs[1]]).sum(1)

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss of the hidden edges and as many pairs without an edge, []."""
        train_edges = batch.train_edge_label_index
        visible, hidden = hide_edges(train_edges, self.predicted_fraction)
        negatives = sample_non_edges(train_edges, batch.num_nodes, hidden.shape[1])
        reduced = batch.clone()
        reduced.edge_index = torch.cat([visible, visible.flip(0)], dim=1)
        label = torch.cat([torch.ones(hidden.shape[1]), torch.zeros(negatives.shape[1])])
        label = label.to(hidden.device)
        logits = self.scores(reduced, torch.cat([hidden, negatives], dim=1))
        total = F.binary_cross_entropy_with_logits(logits, label, reduction="sum")
        return self.training_loss(total, label.new_tensor(len(label)), rows=len(label))

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits of the pairs of `predict_split`, [P]."""
        return self.scores(batch, batch[f"{self.predict_split}_edge_label_index"])

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the summed loss, and logits with labels of the stage's pairs for the metrics."""
        pairs, label = batch[f"{stage}_edge_label_index"], batch[f"{stage}_edge_label"]
        logits = self.scores(batch, pairs)
        loss = F.binary_cross_entropy_with_logits(logits, label.to(logits), reduction="sum")
        updates = dict.fromkeys(self.metrics_of(stage), (logits, label))
        updates["loss"] = loss, label.new_tensor(len(label))
        return updates, len(label)


class EdgeClassification(Classification):
    """Cross-entropy over classes of edges, from the embeddings of their two nodes.

    The logits are mlp([x_source, x_target]), so the two directions of an edge may differ.
    `batch.edge_label_index` [2, P] holds the edges and `batch.edge_label` [P] a class each,
    `IGNORE_INDEX` for none. If the batch has `train_edge_mask`, `val_edge_mask` and
    `test_edge_mask` [P], each stage uses its own edges.

    Args:
        network: from a batch to node embeddings [N, dim].
        adjacency: the adjacency of the network.
        dim: width of the embeddings.
        num_classes: K.
        metrics: as in `Classification`.
        options: of `Classification`.

    Raises:
        ValueError: when the embeddings have another width.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Edges(self_loops=True),
        *,
        dim: int,
        num_classes: int,
        metrics: tuple[MetricName, ...] = ("accuracy", "f1"),
        **options: Unpack[ClassificationOptions],
    ) -> None:
        super().__init__(
            network, adjacency, num_classes=num_classes, level="edge", metrics=metrics, **options
        )
        self.dim = dim
        self.head = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, num_classes))

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the logits of the edges, [P, K]."""
        x = super().forward(batch)
        if x.shape[1] != self.dim:
            raise ValueError(
                f"network: got embeddings of width {x.shape[1]}, expected dim={self.dim}; set the "
                "network's num_classes to it"
            )
        source, target = batch.edge_label_index
        logits: Tensor = self.head(torch.cat([x[source], x[target]], dim=1))
        return logits


class HitsAtK(Metric):
    """hits@K: the fraction of positives with a higher score than the K-th highest negative.

    Args:
        k: K.

    Raises:
        ValueError: for K below 1.
    """

    higher_is_better = True

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"hits: got {k}, expected 1 or more")
        self.k = k
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add pairs with scores [P] and labels [P], 1 for an edge."""
        self.scores.append(scores)  # type: ignore[union-attr, operator]
        self.labels.append(labels)  # type: ignore[union-attr, operator]

    def compute(self) -> Tensor:
        """Return the fraction, []; 1 with fewer than K negatives."""
        # Lists of tensors, or tensors after those of all ranks are gathered.
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels).bool()  # type: ignore[arg-type]
        negative = scores[~labels]
        if len(negative) < self.k:
            return scores.new_ones(())
        return (scores[labels] > negative.topk(self.k).values[-1]).float().mean()


def hide_edges(edges: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Split edges [2, P] at random into those that stay and a hidden fraction, at least one edge.

    All copies of an undirected edge, in either direction, are on the same side.
    """
    low, high = edges.min(0).values, edges.max(0).values
    keys = low * (int(edges.max()) + 1) + high
    pairs, pair_of_edge = keys.unique(return_inverse=True)
    hidden_pairs = torch.zeros(len(pairs), dtype=torch.bool, device=edges.device)
    count = max(1, round(len(pairs) * fraction))
    hidden_pairs[torch.randperm(len(pairs), device=edges.device)[:count]] = True
    hidden = hidden_pairs[pair_of_edge]
    return edges[:, ~hidden], edges[:, hidden]


def sample_non_edges(edges: Tensor, num_nodes: int, count: int) -> Tensor:
    """Sample up to `count` pairs [2, P] of distinct nodes without an edge in either direction.

    Pairs are drawn with replacement, in one round of rejection sampling; a dense graph may give
    fewer than `count`.
    """
    present = torch.cat([edges[0] * num_nodes + edges[1], edges[1] * num_nodes + edges[0]])
    pairs = torch.randint(num_nodes, (2, 4 * count + 16), device=edges.device)
    keys = pairs[0] * num_nodes + pairs[1]
    absent = (pairs[0] != pairs[1]) & ~torch.isin(keys, present)
    return pairs[:, absent][:, :count]
