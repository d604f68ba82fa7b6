"""Samples of different lengths, kept end to end, and batches of them without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch, pack_nodes, positions_in_samples


class Ragged:
    """Samples of nodes, each perhaps with a label, with labels of its nodes, with edges.

    Args:
        x: what the nodes are, one array [n] or [n, F] a sample.
        y: a label a sample [B], or an array [n] of labels a sample; None: without labels.
        edges: edges of each sample, [2, e] from its node to its node; None: without edges.
    """

    def __init__(
        self,
        x: Sequence[np.ndarray],
        y: Sequence[int] | Sequence[np.ndarray] | None = None,
        edges: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.lengths = np.array([len(nodes) for nodes in x], np.int64)
        self.x = _joined(x)
        self._starts = self.lengths.cumsum() - self.lengths
        self.y: np.ndarray | None = None
        if y is not None:
            self.y_of_nodes = len(y) > 0 and isinstance(y[0], np.ndarray)
            self.y = _joined(y) if self.y_of_nodes else np.array(y, np.int64)  # type: ignore[arg-type]
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
        at = np.repeat(self._starts[chosen], lengths) + positions_in_samples(lengths)
        batch = pack_nodes(self.x[at], lengths)
        if self.y is not None:
            batch.y = torch.from_numpy(self.y[at if self.y_of_nodes else chosen])
        if self.num_edges is not None:
            batch.edge_index = torch.from_numpy(self._edges_of(chosen, lengths))
        return batch

    def _edges_of(self, chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert self.num_edges is not None
        counts = self.num_edges[chosen]
        at = np.repeat(self._edge_starts[chosen], counts) + positions_in_samples(counts)
        return self._edges[:, at] + np.repeat(lengths.cumsum() - lengths, counts)


class RaggedPairs:
    """Sequences and what they shall be turned into, for an encoder and a decoder.

    A batch is one of the targets, with x [M] (what the decoder reads: `start`, then the sequence)
    and y [M] (what it shall answer: the sequence, then `end`), pos [M] and `lengths`, and has the
    sources' `source` [N], `source_pos` [N] and `source_lengths`.

    Args:
        sources, targets: token ids, as many of each.
        start, end: the ids of the decoder's first input and last answer.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        *,
        start: int,
        end: int,
    ) -> None:
        read = [np.concatenate([[start], target]) for target in targets]
        answer = [np.concatenate([target, [end]]) for target in targets]
        self.sources, self.targets = Ragged(sources), Ragged(read, answer)
        self.lengths = self.sources.lengths + self.targets.lengths
        self.num_edges: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Tensor) -> Batch:
        batch, read = self.targets[index], self.sources[index]
        batch.source, batch.source_pos, batch.source_lengths = read.x, read.pos, read.lengths
        return batch


def _joined(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(rows).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
