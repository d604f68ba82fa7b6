"""Batches for our models and those of `transformers`, and what both make of them."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

import graphformer as gf
from graphformer.pretrained.saving import state_for_transformers

VOCAB = 97
TEXTS = [[7, 13, 96, 11, 5], [3, 4, 8, 15, 16, 23, 42, 61, 2, 9, 12], [89, 31]]
"""Token ids of a ragged batch, without those that pad."""


def padded(texts: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """A batch as `transformers` takes it."""
    longest = max(map(len, texts))
    rows = [text + [pad] * (longest - len(text)) for text in texts]
    mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def unpadded(output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The nodes of padded texts [B, T, K] end to end [N, K]; vectors of texts as they are."""
    return output[mask.bool()] if output.ndim == 3 else output


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradients of one of our models by the names of `transformers`."""
    with torch.no_grad():
        twin = copy.deepcopy(model)
        grads = dict(model.named_parameters())
        for name, parameter in twin.named_parameters():
            grad = grads[name].grad
            parameter.copy_(torch.zeros_like(parameter) if grad is None else grad)
    return state_for_transformers(twin)


def compare(theirs: Any, ours: Any, *, pad: int, tolerance: float) -> None:
    """Outputs and gradients of a padded batch there and a packed one here."""
    batch, nodes = padded(TEXTS, pad), gf.models.packed(TEXTS)
    output = theirs(**batch)
    expected = unpadded(
        output[0] if output.get("loss") is None else output[1], batch["attention_mask"]
    )
    found = ours(nodes)
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    close(found, expected)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    got = gradients(ours)
    for name, grad in wanted.items():
        close(got[name], grad, msg=lambda text, name=name: f"{name}: {text}")
