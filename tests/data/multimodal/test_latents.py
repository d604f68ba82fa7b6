"""Latents with captions: the layout of a batch by hand, and captions that are left out."""

from __future__ import annotations

import pytest
import torch

from graphformer.batch_type import Batch
from graphformer.data import pack_latents, pack_tokens
from graphformer.data.multimodal.latents import drop_captions, repeat_without_captions

CAPTIONS = pack_tokens([[5, 6, 7], [], [8, 9]])
SHAPES = ((2, 2), (1, 3), (1, 1))
LATENTS = torch.randn(8, 5)


def packed() -> Batch:
    return pack_latents(LATENTS, SHAPES, CAPTIONS)


def test_latents_are_nodes_and_captions_their_source() -> None:
    batch = packed()
    assert torch.equal(batch.x, LATENTS)
    cells = [[0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [0, 1], [0, 2], [0, 0]]
    assert batch.pos.tolist() == cells
    assert (batch.lengths, batch.shapes) == ((4, 3, 1), SHAPES)
    assert batch.source.tolist() == [5, 6, 7, 8, 9]
    assert batch.source_pos.tolist() == [0, 1, 2, 0, 1]
    assert batch.source_lengths == (3, 0, 2)


def test_dropped_captions_have_no_tokens() -> None:
    batch = drop_captions(packed(), [True, False, False])
    assert batch.source.tolist() == [8, 9]
    assert batch.source_pos.tolist() == [0, 1]
    assert batch.source_lengths == (0, 0, 2)
    assert torch.equal(batch.x, LATENTS)
    assert (batch.lengths, batch.shapes) == ((4, 3, 1), SHAPES)
    empty = drop_captions(packed(), [True, True, True])
    assert empty.source.tolist() == []
    assert empty.source_lengths == (0, 0, 0)


def test_repeated_images_have_no_captions() -> None:
    batch = repeat_without_captions(packed())
    assert torch.equal(batch.x, torch.cat([LATENTS, LATENTS]))
    assert batch.pos.tolist() == packed().pos.tolist() * 2
    assert (batch.lengths, batch.shapes) == ((4, 3, 1) * 2, SHAPES * 2)
    assert batch.source.tolist() == [5, 6, 7, 8, 9]
    assert batch.source_lengths == (3, 0, 2, 0, 0, 0)


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="shapes: got 2, expected 3, one for each caption"):
        pack_latents(LATENTS, SHAPES[:2], CAPTIONS)
    with pytest.raises(ValueError, match=r"latents: got shape \[7, 5\], expected \[8, D\]"):
        pack_latents(LATENTS[:7], SHAPES, CAPTIONS)
