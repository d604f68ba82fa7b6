"""Tasks on pairs of nodes: is there an edge, and of which kind?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision
from typing_extensions import Unpack

from graphformer.options import checked_options
from graphformer.patterns import Edges, Pattern
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates
from graphformer.tasks.classification import Classification, ClassificationOptions
from graphformer.tasks.metrics import Mean

if TYPE_CHECKING:
    from torch_geometric.data import Data


class LinkPrediction(Task):
    """Which pairs of nodes are joined? Logistic loss on the product of two nodes' outputs.

    The batch is one graph with `edge_index` [2, E], the training edges both ways;
    `train_edge_label_index` [2, P], each of them once; and for validation and testing
    `val_edge_label_index` [2, P] with `val_edge_label` [P], 1 for an edge and 0 for none, likewise.

    No predicted edge is seen by the network: a training step takes a part of the training edges
    out of the graph, in both directions, and predicts these, and as many pairs without an edge,
    new ones in every step. Validation and testing see all training edges and no others.

    Args:
        network: an embedding of each node, [N, K].
        adjacency: who attends to whom.
        predicted: the share of training edges that a step takes out and predicts.
        hits: K of hits@K, the share of edges that score above all but K - 1 of the other pairs.
        options: those of `Task`.

    Source: Kipf and Welling, 2016 (GAE); hits@K: Hu et al., 2020 (OGB).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Edges(self_loops=True),
        *,
        predicted: float = 0.3,
        hits: int = 20,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if not 0 < predicted <= 1:
            raise ValueError(f"predicted must be a share above 0 and up to 1, got {predicted}")
        self.predicted = predicted
        ranking = {
            "auc": BinaryAUROC(),
            "ap": BinaryAveragePrecision(),
            f"hits@{hits}": HitsAtK(hits),
        }
        self.add_metrics({"loss": Mean(), **ranking})

    def scores(self, batch: Data, pairs: Tensor) -> Tensor:
        """Logits [P] of the pairs [2, P] being edges."""
        x = self(batch).float()
        return (x[pairs[0]] * x[pairs[1]]).sum(1)

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over predicted edges and as many other pairs, []."""
        kept, edges = hide_edges(batch.train_edge_label_index, self.predicted)
        others = sample_non_edges(batch.train_edge_label_index, batch.num_nodes, edges.shape[1])
        seen = batch.clone()
        seen.edge_index = torch.cat([kept, kept.flip(0)], dim=1)
        label = torch.cat([torch.ones(edges.shape[1]), torch.zeros(others.shape[1])]).to(
            edges.device
        )
        logits = self.scores(seen, torch.cat([edges, others], dim=1))
        total = F.binary_cross_entropy_with_logits(logits, label, reduction="sum")
        return self.training_loss(total, label.new_tensor(len(label)), rows=len(label))

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Logits of the test pairs, [P]."""
        return self.scores(batch, batch.test_edge_label_index)

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sum of the loss, and logits with labels of the stage's pairs for the other metrics."""
        pairs, label = batch[f"{stage}_edge_label_index"], batch[f"{stage}_edge_label"]
        logits = self.scores(batch, pairs)
        loss = F.binary_cross_entropy_with_logits(logits, label.float(), reduction="sum")
        updates = dict.fromkeys(self.metrics_of(stage), (logits, label))
        updates["loss"] = loss, label.new_tensor(len(label))
        return updates, len(label)


class EdgeClassification(Classification):
    """Cross-entropy over the classes of edges, from the outputs of their two nodes.

    `batch.edge_label_index` [2, P] holds the edges and `batch.edge_label` [P] one class each, -100
    for those without. Where the batch has `train_edge_mask`, `val_edge_mask` and `test_edge_mask`
    [P], each stage counts its own edges. Both directions of an edge may be told apart.

    Args:
        network: an embedding of each node, [N, dim].
        adjacency: who attends to whom.
        dim: width of the embeddings.
        num_classes: K.
        options: those of `Classification`.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Edges(self_loops=True),
        *,
        dim: int,
        num_classes: int,
        metrics: tuple[Literal["accuracy", "f1", "auroc"], ...] = ("accuracy", "f1"),
        **options: Unpack[ClassificationOptions],
    ) -> None:
        super().__init__(
            network, adjacency, num_classes=num_classes, level="edge", metrics=metrics, **options
        )
        self.head = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, num_classes))

    def forward(self, batch: Data) -> Tensor:
        """Logits of the edges, [P, K]."""
        x = super().forward(batch)
        source, target = batch.edge_label_index
        logits: Tensor = self.head(torch.cat([x[source], x[target]], dim=1))
        return logits


class HitsAtK(Metric):
    """hits@K: the share of positives that score above the K-th best negative."""

    higher_is_better = True

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if k < 1:
            raise ValueError(f"hits must be 1 or more, got {k}")
        self.k = k
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add pairs: their scores [P], and whether they are edges [P]."""
        self.scores.append(scores)  # type: ignore[union-attr, operator]
        self.labels.append(labels)  # type: ignore[union-attr, operator]

    def compute(self) -> Tensor:
        """The share, []; 1 where there are fewer than K negatives."""
        scores, labels = torch.cat(list(self.scores)), torch.cat(list(self.labels)).bool()  # type: ignore[arg-type]
        negative = scores[~labels]
        if len(negative) < self.k:
            return scores.new_ones(())
        return (scores[labels] > negative.topk(self.k).values[-1]).float().mean()


def hide_edges(edges: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Draw a share of the edges [2, P], one at least: those that stay and those drawn.

    An edge that comes several times, in whatever direction, stays or is drawn with all of them.
    """
    low, high = edges.min(0).values, edges.max(0).values
    pairs, pair = (low * (int(edges.max()) + 1) + high).unique(return_inverse=True)
    drawn = torch.zeros(len(pairs), dtype=torch.bool, device=edges.device)
    count = max(1, round(len(pairs) * share))
    drawn[torch.randperm(len(pairs), device=edges.device)[:count]] = True
    hidden = drawn[pair]
    return edges[:, ~hidden], edges[:, hidden]


def sample_non_edges(edges: Tensor, num_nodes: int, count: int) -> Tensor:
    """Draw up to `count` pairs [2, P] of distinct nodes that no edge of [2, E] joins either way.

    They are drawn independently, so one may come twice. In a dense graph there may be fewer.
    """
    present = torch.cat([edges[0] * num_nodes + edges[1], edges[1] * num_nodes + edges[0]])
    drawn = torch.randint(num_nodes, (2, 4 * count + 16), device=edges.device)
    keys = drawn[0] * num_nodes + drawn[1]
    absent = (drawn[0] != drawn[1]) & ~torch.isin(keys, present)
    return drawn[:, absent][:, :count]
