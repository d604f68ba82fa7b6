"""Blocks of a token stream: labels, documents, isolation of documents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer import models, patterns
from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.text.blocks import PackedBlocks


@given(st.integers(2, 97), st.integers(1, 31), st.integers(1, 7))
def test_covering_blocks_lose_nothing(size: int, block_size: int, batch_size: int) -> None:
    tokens = np.arange(size) * 3
    blocks = PackedBlocks(tokens, block_size, stride=block_size)
    batches = [blocks[index] for index in torch.arange(len(blocks)).split(batch_size)]
    assert torch.cat([b.x for b in batches]).tolist() == tokens[:-1].tolist()
    assert torch.cat([b.y for b in batches]).tolist() == tokens[1:].tolist()
    for batch in batches:
        assert sum(batch.lengths) == len(batch.x)
        assert all(0 < length <= block_size for length in batch.lengths)
        assert batch.pos.tolist() == [p for length in batch.lengths for p in range(length)]


@pytest.mark.parametrize("across", [False, True])
def test_documents_are_packed_without_attention_or_labels_across_them(across: bool) -> None:
    tokens, starts = np.arange(23), np.array([0, 5, 6, 13])
    blocks = PackedBlocks(tokens, 7, stride=7, starts=starts, across=across)
    batch = blocks[torch.arange(len(blocks))]
    document = np.searchsorted(starts, batch.x.numpy(), side="right")
    pieces = (5, 1, 1, 6, 1, 7, 1)
    assert (batch.documents if across else batch.lengths) == pieces
    follows = np.isin(batch.x.numpy() + 1, starts)
    assert batch.y[follows].tolist() == [IGNORE_INDEX] * 3
    assert torch.equal(batch.y[~follows], batch.x[~follows] + 1)
    sees = (patterns.Causal() & patterns.Documents() if across else patterns.Causal())(batch)
    source, target = sees.edge_index.numpy()
    assert (document[source] == document[target]).all()
    assert sees.num_edges == sum(n * (n + 1) // 2 for n in pieces)
    expected = [7, 7, 7, 1] if across else pieces
    assert batch.pos.tolist() == [p for length in expected for p in range(length)]


def test_a_documents_output_keeps_its_bits_when_its_neighbour_changes() -> None:
    torch.manual_seed(0)
    network = models.language_model(29, dim=16, depth=2, num_heads=2)
    outputs = []
    for last in (np.arange(11, 18), np.arange(18, 25)):
        tokens = np.concatenate([np.arange(11), last])
        block = PackedBlocks(tokens, 17, stride=17, starts=np.array([0, 11]))[torch.tensor([0])]
        outputs.append(network(block, patterns.Causal()(block)))
    assert torch.equal(outputs[0][:11], outputs[1][:11])
    assert not torch.equal(outputs[0][11:], outputs[1][11:])


def test_crops_reach_every_place() -> None:
    crops = PackedBlocks(np.arange(13), 5, stride=1)
    batch = crops[torch.arange(len(crops))]
    assert len(crops) == 8
    assert batch.lengths == (5,) * 8
    assert batch.x.view(8, 5)[:, 0].tolist() == list(range(8))
    assert batch.y.max() == 12
