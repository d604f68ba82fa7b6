"""XLNet's two streams: predictions in a random order equal those of `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import gradients
from helpers.families import XLNET

import graphformer as gf
from graphformer.data import pack_tokens
from graphformer.patterns import Complete
from graphformer.tasks.text.masked_language import logits_at
from graphformer.tasks.text.permuted_language import two_streams

TOKENS = [[3, 14, 15, 9, 26, 5, 7], [2, 7, 18, 28, 1, 8, 11]]
ORDER = [[-1, 1, -1, 0, -1, 2, -1], [2, -1, -1, -1, 0, 1, -1]]


def permutation(order: torch.Tensor) -> dict[str, torch.Tensor]:
    """`perm_mask` [B, n, n], 1 where i may not attend to j; and `target_mapping` [B, k, n]."""
    hidden = order[:, None, :] >= order[:, :, None]
    hidden &= (order[:, None, :] >= 0).expand_as(hidden)
    targets = torch.stack([torch.eye(order.shape[1])[row >= 0] for row in order])
    return {"perm_mask": hidden.double(), "target_mapping": targets.double()}


@pytest.mark.parametrize("changed", [{}, {"clamp_len": 3}])
def test_the_query_stream_equals_transformers(make: Any, changed: dict[str, int]) -> None:
    theirs = make("XLNetLMHeadModel", "XLNetConfig", torch.float64, **XLNET, **changed)
    ours = gf.from_pretrained(theirs)
    sinusoids = theirs.transformer.relative_positional_encoding
    # transformers (5.23) leaves them in float32, which its query stream does not convert.
    theirs.transformer.relative_positional_encoding = lambda *a, **k: sinusoids(*a, **k).double()
    order = torch.tensor(ORDER)
    expected = theirs(torch.tensor(TOKENS), **permutation(order)).logits.flatten(0, 1)
    batch = pack_tokens(TOKENS)
    streams = two_streams(batch, Complete()(batch), order.flatten(), mask_id=0)
    found = logits_at(ours, streams.batch, streams.adjacency, streams.queries)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # sinusoids are in float32

    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    own = gradients(ours)
    compared = set()
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and name in own:
            size = parameter.grad.abs().max().clamp(min=1)
            torch.testing.assert_close(
                own[name] / size, parameter.grad / size, rtol=1e-6, atol=1e-6, msg=name
            )
            compared.add(name)
    assert "transformer.mask_emb" in compared
    assert own["transformer.mask_emb"].abs().max() > 0
    assert {n for n, p in theirs.named_parameters() if p.grad is not None} == compared
