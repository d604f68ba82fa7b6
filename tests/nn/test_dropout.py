from __future__ import annotations

import torch

from graphformer import nn
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
