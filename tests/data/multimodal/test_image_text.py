"""Texts with images: the layout of a batch by hand, and adjacencies against masks by hand."""

from __future__ import annotations

import pytest
import torch

from graphformer.batch_type import IGNORE_INDEX, Batch
from graphformer.data import attach_images, pack_images, pack_tokens, prepend_images
from graphformer.patterns import Between, Causal, Complete, Edges, Grid, Prefix, Within

IMAGE = 9
TEXTS = pack_tokens([[5, 6, 7], [8], [3, 4]])
IMAGES = pack_images([torch.rand(1, 4, 6), None, torch.rand(1, 2, 2)], patch_size=2)


def joint(**fields: torch.Tensor) -> Batch:
    return prepend_images(TEXTS.clone().update(fields), IMAGES, IMAGE)


def test_patches_precede_the_text_of_their_sample() -> None:
    batch = joint(y=torch.tensor([0, 1, 2, 3, 4, 5]))
    assert batch.x.tolist() == [IMAGE] * 6 + [5, 6, 7] + [8] + [IMAGE] + [3, 4]
    assert batch.node_type.tolist() == [0] * 6 + [1] * 3 + [1] + [0] + [1] * 2
    assert batch.pos.tolist() == [*range(9), 0, 0, 1, 2]
    assert batch.lengths == (9, 1, 3)
    assert batch.prefix_lengths == batch.source_lengths == (6, 0, 1)
    assert batch.documents == (6, 3, 0, 1, 1, 2)
    assert batch.shapes == batch.source_shapes == ((2, 3), (0, 0), (1, 1))
    none = IGNORE_INDEX
    assert batch.y.tolist() == [none] * 6 + [0, 1, 2] + [3] + [none] + [4, 5]
    assert torch.equal(batch.source, IMAGES.x)
    assert torch.equal(batch.source_pos, IMAGES.pos)
    assert "y" not in joint()


def test_images_of_cross_attention_leave_the_text_as_it_is() -> None:
    batch = attach_images(TEXTS.clone().update({"y": torch.arange(6)}), IMAGES)
    assert torch.equal(batch.x, TEXTS.x)
    assert torch.equal(batch.y, torch.arange(6))
    assert batch.lengths == (3, 1, 2)
    assert batch.source_lengths == (6, 0, 1)
    assert torch.equal(batch.source, IMAGES.x)


def test_the_prefix_is_complete_among_patches_and_causal_among_tokens() -> None:
    expected = torch.zeros(13, 13, dtype=torch.bool)
    expected[:6, :6] = True
    for start, end in ((6, 9), (11, 13)):
        for token in range(start, end):
            expected[token, start : token + 1] = True
    expected[6:9, :6] = True
    expected[9, 9] = expected[10, 10] = True
    expected[11:13, 10] = True
    batch = joint()
    assert torch.equal(Prefix()(batch).to_mask(), expected)
    composed = Within(0, Complete()) | Within(1, Causal()) | Between(target=1, source=0)
    assert torch.equal(composed(batch).to_mask(), expected)


def test_trees_grids_and_edges_between_modalities_are_one_adjacency() -> None:
    heads = torch.tensor([[7, 7, 12], [6, 8, 11]])  # word 7 is the head of 6 and 8, 12 that of 11
    batch = joint()
    batch.edge_index = heads
    pattern = Edges(undirected=True) | Within(0, Grid(1)) | Between(target=1, source=0)
    expected = torch.zeros(13, 13, dtype=torch.bool)
    for i, j in heads.T.tolist():
        expected[i, j] = expected[j, i] = True
    for i in range(6):
        for j in range(6):
            expected[i, j] = max(abs(i // 3 - j // 3), abs(i % 3 - j % 3)) <= 1
    expected[10, 10] = True
    expected[6:9, :6] = expected[11:13, 10] = True
    assert torch.equal(pattern(batch).to_mask(), expected)


def test_as_many_images_as_texts_are_needed() -> None:
    one = pack_images(torch.rand(1, 1, 2, 2), patch_size=2)
    for make in (lambda: attach_images(TEXTS, one), lambda: prepend_images(TEXTS, one, IMAGE)):
        with pytest.raises(ValueError, match="images: got 1, expected 3, one for each text"):
            make()
