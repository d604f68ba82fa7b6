from __future__ import annotations

import itertools
from unittest import mock

import pytest
import torch
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models, nn
from graphformer.data import pack_images
from graphformer.nn import transformer
from graphformer.nn.dropout import with_drop_path
from graphformer.ops import dropout


def test_is_the_fused_function_in_training():
    x, module = torch.randn(211, 97), nn.Dropout(0.3)
    torch.manual_seed(3)
    y = module(x)
    torch.manual_seed(3)
    assert torch.equal(y, dropout(x, 0.3))
    assert torch.equal(module.eval()(x), x)


def test_in_place():
    x = torch.ones(211, 97)
    y = nn.Dropout(0.5, inplace=True)(x)
    assert y is x
    assert set(x.unique().tolist()) == {0.0, 2.0}


DEPTH, PATH = 3, 0.5
SIZES = [5, 0, 2, 7]


def make_transformer(drop_path: float) -> nn.Transformer:
    torch.manual_seed(0)
    return nn.Transformer(11, DEPTH, 1, drop_path=drop_path).double()


def test_drop_path_leaves_out_whole_blocks_of_samples():
    dropping, plain = make_transformer(PATH), make_transformer(0.0)
    x = torch.randn(sum(SIZES), 11, dtype=torch.float64)
    edges = gf.complete(SIZES)
    expected = plain(x, edges)
    assert torch.equal(dropping.eval()(x, edges), expected)
    assert torch.equal(dropping(x, edges, lengths=SIZES), expected)
    dropping.train()
    # All combinations of blocks that are kept or left out, with the factors 1 / (1 - p).
    outcomes = []
    for kept in itertools.product([0, 1], repeat=DEPTH):
        y = x
        for number, (block, keep) in enumerate(zip(plain.blocks, kept, strict=True), 1):
            y = y + keep / (1 - PATH * number / DEPTH) * (block(y, edges) - y)
        outcomes.append(plain.norm(y))
    seen = set()
    for _ in range(23):
        combinations = []
        for actual, *possible in zip(
            dropping(x, edges, lengths=SIZES).split(SIZES),
            *(outcome.split(SIZES) for outcome in outcomes),
            strict=True,
        ):
            same = [torch.allclose(actual, each) for each in possible]
            assert any(same)
            if len(actual):
                combinations.append(same.index(True))
        seen.add(tuple(combinations))
    assert any(len(set(each)) > 1 for each in seen)  # samples are dropped one by one


def test_drop_path_keeps_the_expected_change():
    block = with_drop_path(lambda x: x + 3, 0.25, [1] * 40_009)
    torch.manual_seed(0)
    change = block(torch.zeros(40_009, 2))
    assert change.unique().tolist() == [0, 4]
    assert torch.equal(change[:, 0], change[:, 1])
    # Of n draws of 0 or 4 with standard deviation sqrt(3): six standard errors.
    assert abs(change.double().mean() - 3) < 6 * (3 / 40_009) ** 0.5


def test_drop_path_of_models_is_by_image():
    torch.manual_seed(0)
    model = models.vit(3, 8, 2, 2, channels=1, patch_size=2, pool="cls", registers=1, drop_path=0.9)
    images = [torch.randn(1, 6, 4) for _ in range(17)]
    batch = pack_images(torch.stack(images), 2)
    with mock.patch.object(transformer, "with_drop_path", wraps=with_drop_path) as wrapped:
        model(batch, gf.patterns.Complete()).sum().backward()
    assert [call.args[1] for call in wrapped.call_args_list] == [0.45, 0.9]
    assert {tuple(call.args[2]) for call in wrapped.call_args_list} == {(8,) * 17}
    graphs = models.graph_transformer(3, 2, dim=8, num_heads=2, pool="mean")
    graphs.transformer.drop_path = 0.5
    edge_index = torch.tensor([[0, 1, 2], [1, 0, 3]])
    data = Data(x=torch.randn(4, 3), edge_index=edge_index, ptr=torch.tensor([0, 2, 4]))
    with mock.patch.object(transformer, "with_drop_path", wraps=with_drop_path) as wrapped:
        graphs(data, gf.patterns.Edges())
    assert {tuple(call.args[2]) for call in wrapped.call_args_list} == {(2, 2)}
    with pytest.raises(ValueError, match="drop_path: got 1.0, expected from 0 to below 1"):
        nn.Transformer(11, 1, 1, drop_path=1.0)
