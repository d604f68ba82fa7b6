"""`Explained`: the classes of samples, or of one node, as functions of the nodes they rest on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.nn import record_attention
from graphformer.patterns import lengths
from graphformer.tasks import Classification
from graphformer.trust.explanation.attribution import (
    attention_attributions,
    gnn_explainer,
    gradient_times_input,
    integrated_gradients,
    replaced_output,
)


@dataclass
class Explained:
    """The predicted class of each sample of a batch, or of one node of a graph.

    The nodes are those after the network's embedding, or the features of a network without one.

    Attributes:
        task: in evaluation mode.
        batch: of samples, or of one graph.
        node: the node whose class is explained; None for the classes of all samples.
        sizes: number of nodes of each sample.
        groups: number of nodes among which each explanation is chosen.
    """

    task: Classification
    batch: BatchLike
    node: int | None = None

    def __post_init__(self) -> None:
        embedding = getattr(self.task.network, "embedding", None)
        self.embedding = embedding if isinstance(embedding, torch.nn.Module) else None
        with torch.no_grad():
            features = self.batch.x if self.embedding is None else self.embedding(self.batch)
            self.x = features.to_dense().float()
            self.predicted = self.logits(self.x).argmax(1)
        self.sizes: Sequence[int] = lengths(self.batch)
        # One node's class is explained by nodes of the whole batch, of which few can influence it.
        self.groups = self.sizes if self.node is None else (sum(self.sizes),)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits [B, K] of nodes [N, C], [1, K] of one explained node."""
        with self.with_nodes(x) as batch:
            logits: Tensor = self.task(batch)
        return logits if self.node is None else logits[self.node : self.node + 1]

    @contextmanager
    def with_nodes(self, x: Tensor) -> Iterator[BatchLike]:
        """Give the network other nodes [N, C] within a `with` block; yields the batch to pass."""
        if self.embedding is None:
            batch = copy.copy(self.batch)
            batch.x = x
            yield batch
        else:
            with replaced_output(self.embedding, x):
                yield self.batch

    def score(self, x: Tensor) -> Tensor:
        """Return the probability of the predicted classes, [B]."""
        return self.logits(x).softmax(1).gather(1, self.predicted[:, None]).squeeze(1)

    def attributions(self, seed: int) -> tuple[dict[str, Tensor], list[str]]:
        """Return method -> attribution [N] with a random one last, and why methods are left out."""
        found, missing = dict(self._by_attention()), []
        if not found:
            missing.append("Attention was left out: the network records none over these nodes.")
        found["gradient times input"] = gradient_times_input(self.score, self.x)
        try:
            found["integrated gradients"] = integrated_gradients(self.score, self.x)
        except ModuleNotFoundError as error:
            missing.append(f"Integrated gradients were left out: {error}.")
        found["GNNExplainer"] = gnn_explainer(self.logits, self.x, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        found["random"] = torch.rand(len(self.x), generator=generator)
        if self.node is not None:
            beyond = ~self._reached()
            found = {name: v.masked_fill(beyond, -torch.inf) for name, v in found.items()}
        return found, missing

    def sample(self) -> slice:
        """Return the nodes of the first sample, or of that with the explained node."""
        start = 0
        for size in self.sizes:
            if self.node is None or self.node < start + size:
                return slice(start, start + size)
            start += size
        raise ValueError(f"node: got {self.node}, expected a number below {start}")

    def candidates(self) -> float:
        """Return the share of the nodes that can influence the prediction."""
        return 1.0 if self.node is None else float(self._reached().double().mean())

    def _reached(self) -> Tensor:
        """Return which nodes the prediction depends on, bool [N]."""
        x = self.x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.score(x).sum(), x)
        return (gradient != 0).any(1)

    @torch.no_grad()
    def _by_attention(self) -> dict[str, Tensor]:
        """Return the attributions by attention; none for networks without."""
        with record_attention(self.task.network) as records:
            self.task(self.batch)
        count, total = len(self.x), sum(self.sizes)
        square = {(each.adjacency.shape) for each in records}
        if len(square) != 1 or count != total:
            return {}
        ((targets, sources),) = square
        tokens, rest = divmod(targets - count, len(self.sizes))
        if targets != sources or tokens < 0 or rest:
            return {}
        share, is_node = self._share(tokens)
        found = attention_attributions(records, share)
        return {name: values[is_node] for name, values in found.items()}

    def _share(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Return the share of each row in what is explained, and which rows are nodes.

        Args:
            tokens: number of learned tokens before the nodes of each sample; the first is pooled.
        """
        parts, is_node, start = [], [], 0
        for size in self.sizes:
            share = torch.full((size,), 1 / max(size, 1))
            if self.node is not None:
                share = (torch.arange(start, start + size) == self.node).float()
            first = torch.zeros(tokens)
            if tokens and self.node is None:
                share, first[0] = torch.zeros(size), 1.0
            parts += [first, share]
            is_node.append(torch.arange(tokens + size) >= tokens)
            start += size
        return torch.cat(parts), torch.cat(is_node)
