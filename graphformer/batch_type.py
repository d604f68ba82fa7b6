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
    own `Data` and `Batch` objects can be used in its place: functions read the fields below by
    name. Without `lengths` the sizes of samples are read from `ptr`, else from `batch`; a batch
    with none of them is one sample. All fields but `x` are optional; a function that requires an
    absent one raises ValueError with its name.

    Nodes:
        x: token ids, int64 [N]; or features, [N, F].
        pos: position of each node in its sample, int64 [N]; row and column of a patch, [N, 2];
            time, row and column of a patch of a video, [N, 3].
        lengths: number of nodes of each sample, B ints.
        ptr: first node of each sample and N, int64 [B + 1]; PyG's name.
        batch: sample of each node, int64 [N], ascending except after PyG's `to_homogeneous`.
        shapes: rows and columns of each image in patches, B pairs; of each video B triples, its
            times first; (0, 0) for a sample without an image.
        documents: lengths of the documents inside the samples, where a sample holds several.
        prefix_lengths: number of nodes of each sample's prefix, in which attention is
            bidirectional, B ints.
        node_type: type of each node, int64 [N].
        node_time: time at which each node is considered, [N].
        token_types: segment of each token (BERT), int64 [N].
        kind_starts: where kinds of nodes have ids of their own, the first id of each kind in
            token_types and the number of ids, ints.
        query_mask: which nodes are queries of tokens to predict, without these, bool [N].
        virtual_mask: which nodes are virtual nodes, bool [N].
        laplacian_pe, random_walk_pe: node encodings, float [N, K].
        in_degree, out_degree: degrees of the nodes, int64 [N].

    Edges:
        edge_index: source and target of each edge, int64 [2, E].
        edge_attr: features of each edge, [E, F].
        edge_type: type of each edge, int64 [E].
        edge_weight: weight of each edge, [E].
        edge_time: time of the event that each edge is, [E].
        path_index: nodes of a shortest path of P pairs of nodes, source first, int64 [D + 1, P].
        path_length: number of edges of each path, int64 [P].

    Targets:
        y: labels by node [N] or by sample [B]; `IGNORE_INDEX` marks a missing label.
        share: weight of the label `y` where samples are mixed (mixup), a float.
        y_other: the label of the other sample of the mixture, [B].
        language_ids: token of each sample's language, int64 [B].
        class_probabilities: probability of each class, the target of a sample in place of y when
            training, [B, K].
        answer_nodes: node of each sample that predicts the token of its class, int64 [B].
        answer_ids: token of each class, int64 [B, K].
        margin: by how much the first of each two samples, a pair, should be better, [P].
        length_difference: characters of the first answer minus those of the second, int64 [P].
        question_type: number of the type of each question, int64 [B].
        prompts, references: text of the last message of each prompt and of its reference answer.
        target_index: the node of each sample that a query asks for, int64 [B].
        known_index: pairs (query, candidate) that are true answers besides the asked one,
            int64 [2, K].
        distractors: wrong candidates of each query, int64 [B, D].
        triples: head, relation and tail of each fact, head and tail as samples, int64 [P, 3].
        train_mask, val_mask, test_mask: the labelled nodes of a split, bool [N].
        edge_label_index, edge_label: node pairs to classify, int64 [2, P], and their labels, [P];
            of a split with its name as a prefix, such as train_edge_label_index.

    In a distributed run:
        is_padding: whether the batch repeats samples of another rank, because this one has none
            left; it has no weight in losses and metrics.

    Source of an encoder-decoder, with the same meaning as the fields without the prefix:
        source, source_pos, source_lengths, source_shapes.
    """

    if TYPE_CHECKING:
        x: Tensor
        pos: Tensor
        lengths: tuple[int, ...]
        ptr: Tensor
        batch: Tensor
        shapes: tuple[tuple[int, ...], ...]
        documents: tuple[int, ...]
        prefix_lengths: tuple[int, ...]
        node_type: Tensor
        node_time: Tensor
        token_types: Tensor
        kind_starts: tuple[int, ...]
        query_mask: Tensor
        virtual_mask: Tensor
        laplacian_pe: Tensor
        random_walk_pe: Tensor
        in_degree: Tensor
        out_degree: Tensor
        edge_index: Tensor
        edge_attr: Tensor
        edge_type: Tensor
        edge_weight: Tensor
        edge_time: Tensor
        path_index: Tensor
        path_length: Tensor
        y: Tensor
        share: float
        y_other: Tensor
        question_type: Tensor
        prompts: tuple[str, ...]
        references: tuple[str, ...]
        language_ids: Tensor
        class_probabilities: Tensor
        answer_nodes: Tensor
        answer_ids: Tensor
        margin: Tensor
        length_difference: Tensor
        target_index: Tensor
        known_index: Tensor
        distractors: Tensor
        triples: Tensor
        train_mask: Tensor
        val_mask: Tensor
        test_mask: Tensor
        edge_label_index: Tensor
        edge_label: Tensor
        is_padding: bool
        source: Tensor
        source_pos: Tensor
        source_lengths: tuple[int, ...]
        source_shapes: tuple[tuple[int, ...], ...]


BatchLike: TypeAlias = Batch | Data
"""What functions accept: a `Batch`, or a PyG `Data` or `Batch` with the fields they need."""
