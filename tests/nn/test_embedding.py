"""The embedding of tokens, positions and token types."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer.nn import Embedding, Positions


def test_embedding_is_the_sum_of_features_and_positions():
    tokens, positions = nn.Embedding(11, 6), Positions(6, 7)
    batch = Data(x=torch.tensor([3, 10, 3]), pos=torch.tensor([0, 1, 0]), num_nodes=3)
    expected = tokens(batch.x) + positions(batch.pos)
    assert torch.equal(Embedding(tokens, positions)(batch), expected)
    assert torch.equal(Embedding(tokens)(batch), tokens(batch.x))


def test_token_types_and_a_norm():
    tokens, types, norm = nn.Embedding(11, 6), nn.Embedding(2, 6), nn.LayerNorm(6)
    embedding = Embedding(tokens, types=types, norm=norm)
    batch = Data(x=torch.tensor([3, 10, 3]), num_nodes=3)
    torch.testing.assert_close(embedding(batch), norm(tokens(batch.x) + types.weight[0]))
    batch.token_types = torch.tensor([0, 1, 1])
    torch.testing.assert_close(embedding(batch), norm(tokens(batch.x) + types(batch.token_types)))


def test_absent_positions_are_named():
    embedding = Embedding(nn.Embedding(3, 2), Positions(2, 7))
    with pytest.raises(ValueError, match=r"batch\.pos: got None, .* the model embeds positions"):
        embedding(Data(x=torch.arange(3)))


def test_dropout_in_training_only():
    embedding = Embedding(nn.Linear(3, 211), dropout=0.5)
    batch = Data(x=torch.ones(5, 3))
    assert (embedding(batch) == 0).any()
    embedding.eval()
    assert torch.equal(embedding(batch), embedding.features(batch.x))


def test_hooks_of_the_type_embedding_are_called_without_types():
    embedding, calls = Embedding(nn.Embedding(11, 6), types=nn.Embedding(2, 6)), []
    batch = Data(x=torch.tensor([3, 10, 3]), num_nodes=3)
    expected = embedding(batch)
    embedding.types.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(embedding(batch), expected)
    assert calls == [1]
