"""`Ragged` and `RaggedPairs`: samples of different lengths in memory, packed by the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch, pack_nodes, positions_in_samples


class Ragged:
    """Samples of nodes, with optional labels of samples or nodes and optional edges.

    `samples[index [B]]` is a batch of the chosen samples in that order: x, pos, lengths, and y and
    edge_index where these are given.

    Args:
        x: ids or features of each sample's nodes, [n] or [n, F].
        y: a label for each sample, or a list of K; or an array [n] of labels for the nodes of each.
        edges: source and target of each sample's edges, [2, e], numbered within the sample.
    """

    def __init__(
        self,
        x: Sequence[np.ndarray],
        y: Sequence[int] | Sequence[list[int]] | Sequence[np.ndarray] | None = None,
        edges: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.lengths = np.array([len(nodes) for nodes in x], np.int64)
        self.x = _concatenate(x)
        self._starts = self.lengths.cumsum() - self.lengths
        self.y: np.ndarray | None = None
        if y is not None:
            self.y_of_nodes = len(y) > 0 and isinstance(y[0], np.ndarray)
            self.y = _concatenate(y) if self.y_of_nodes else np.array(y, np.int64)  # type: ignore[arg-type]
        self.num_edges: np.ndarray | None = None
        if edges is not None:
            self.num_edges = np.array([pairs.shape[1] for pairs in edges], np.int64)
            self._edges = np.concatenate([np.zeros((2, 0), np.int64), *edges], axis=1)
            self._edge_starts = self.num_edges.cumsum() - self.num_edges

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Tensor) -> Batch:
        chosen = index.numpy()
        lengths = self.lengths[chosen]
        nodes = np.repeat(self._starts[chosen], lengths) + positions_in_samples(lengths)
        batch = pack_nodes(self.x[nodes], lengths)
        if self.y is not None:
            batch.y = torch.from_numpy(self.y[nodes if self.y_of_nodes else chosen])
        if self.num_edges is not None:
            batch.edge_index = torch.from_numpy(self._edge_index(chosen, lengths))
        return batch

    def _edge_index(self, chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the edges of the chosen samples with their nodes numbered in the batch, [2, E]."""
        assert self.num_edges is not None
        counts = self.num_edges[chosen]
        edges = np.repeat(self._edge_starts[chosen], counts) + positions_in_samples(counts)
        return self._edges[:, edges] + np.repeat(lengths.cumsum() - lengths, counts)


class RaggedPairs:
    """Pairs of token sequences, a source and a target, for an encoder-decoder.

    A batch has the decoder's input x [M] (`start`, then the target), its labels y [M] (the target,
    then `end`), pos [M] and lengths, and the encoder's input in source [N], source_pos [N] and
    source_lengths.

    Args:
        sources, targets: token ids, equally many of both.
        start: id that begins the decoder's input, or that of each pair.
        end: id that ends its labels.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        *,
        start: int | Sequence[int],
        end: int,
    ) -> None:
        starts = [start] * len(targets) if isinstance(start, int) else start
        inputs = [np.concatenate([[s], t]) for s, t in zip(starts, targets, strict=True)]
        labels = [np.concatenate([target, [end]]) for target in targets]
        self.sources, self.targets = Ragged(sources), Ragged(inputs, labels)
        self.lengths = self.sources.lengths + self.targets.lengths
        self.num_edges: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Tensor) -> Batch:
        batch, source = self.targets[index], self.sources[index]
        batch.source, batch.source_pos = source.x, source.pos
        batch.source_lengths = source.lengths
        return batch


def _concatenate(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(rows).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
