from __future__ import annotations

import torch


def test_fresh_memory_is_never_zero_by_luck() -> None:
    like = torch.zeros(3, dtype=torch.float64)
    for tensor in (torch.empty(3), torch.empty_like(like), like.new_empty(5)):
        assert tensor.isnan().all()
    assert (torch.empty(3, dtype=torch.int32) == 2**31 - 1).all()


def test_layers_are_made_as_ever() -> None:
    assert torch.nn.Linear(3, 5).weight.isfinite().all()
    assert torch.nn.MultiheadAttention(6, 2).in_proj_weight.isfinite().all()
