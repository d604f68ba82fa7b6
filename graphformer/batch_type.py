"""The batch type: what data modules yield, and what patterns, models and tasks read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor
from torch_geometric.data import Data

IGNORE_INDEX = -100
"""The label of a node or sample without one; torch's `cross_entropy` ignores it by default."""


class Batch(Data):
    """Samples packed end to end: B samples, N nodes, E edges, no padding.

    A batch is a PyG `Data`, so `to(device)`, `pin_memory` and PyG's transforms work on it. PyG's
    own `Data` and `Batch` objects serve in its place: functions read the fields below by name, and
    derive `lengths` from `ptr` where it is absent. All fields but `x` are optional; a function that
    needs one that is absent raises ValueError and names it.

    Nodes:
        x: token ids, int64 [N]; or features, [N, F].
        pos: position of each node in its sample, int64 [N]; row and column of a patch, [N, 2].
        lengths: number of nodes of each sample, B ints.
        ptr: first node of each sample and N, int64 [B + 1]; PyG's name.
        batch: sample of each node, int64 [N], ascending; PyG's name.
        shapes: rows and columns of each image in patches, B pairs.
        documents: lengths of the documents inside the samples, where a sample holds several.
        prefix_lengths: number of leading nodes of each sample that see one another, B ints.
        node_type: type of each node, int64 [N].
        token_types: segment of each token (BERT), int64 [N].
        virtual_mask: which nodes are virtual nodes, bool [N].

    Edges:
        edge_index: source and target of each edge, int64 [2, E].
        edge_attr: features of each edge, [E, F].
        edge_type: type of each edge, int64 [E].
        edge_weight: weight of each edge, [E].

    Targets:
        y: labels by node [N] or by sample [B]; `IGNORE_INDEX` marks a missing label.
        share: weight of the second label where samples are mixed (mixup), [B].
        train_mask, val_mask, test_mask: the labelled nodes of a split, bool [N].
        edge_label_index, edge_label: node pairs to classify, int64 [2, P], and their labels, [P].

    Source of an encoder-decoder, with the same meaning as the fields without the prefix:
        source, source_pos, source_lengths, source_shapes.
    """

    if TYPE_CHECKING:
        x: Tensor
        pos: Tensor
        lengths: tuple[int, ...]
        ptr: Tensor
        batch: Tensor
        shapes: tuple[tuple[int, int], ...]
        documents: tuple[int, ...]
        prefix_lengths: tuple[int, ...]
        node_type: Tensor
        token_types: Tensor
        virtual_mask: Tensor
        edge_index: Tensor
        edge_attr: Tensor
        edge_type: Tensor
        edge_weight: Tensor
        y: Tensor
        share: Tensor
        train_mask: Tensor
        val_mask: Tensor
        test_mask: Tensor
        edge_label_index: Tensor
        edge_label: Tensor
        source: Tensor
        source_pos: Tensor
        source_lengths: tuple[int, ...]
        source_shapes: tuple[tuple[int, int], ...]


BatchLike: TypeAlias = Batch | Data
"""What functions accept: a `Batch`, or a PyG `Data` or `Batch` with the fields they need."""
