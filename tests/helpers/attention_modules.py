"""Comparison of attention modules with those of other libraries."""

from __future__ import annotations

import torch
from torch import nn


def randn(*shape, seed=0):
    """Return normal numbers in float64; the same for the same shape and seed."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def copy_weights(pairs) -> None:
    """Set the weights of both modules to the same random numbers, biases included."""
    with torch.no_grad():
        for number, (ours, other) in enumerate(pairs):
            other.copy_(randn(*other.shape, seed=number) / 3)
            ours.copy_(other.reshape(ours.shape))


def assert_same_results(ours, other, pairs, inputs) -> None:
    """Check that outputs and the gradients of inputs and of all weights are equal."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    others = [x.clone().requires_grad_() for x in inputs]
    out, expected = ours(*leaves), other(*others)
    torch.testing.assert_close(out, expected)
    cotangent = randn(*out.shape, seed=77)
    got = torch.autograd.grad((out * cotangent).sum(), [*leaves, *(a for a, _ in pairs)])
    want = torch.autograd.grad((expected * cotangent).sum(), [*others, *(b for _, b in pairs)])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b.reshape(a.shape))


def count_calls(module):
    """Count the calls of each linear map of a module, by name."""
    calls = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            calls[name] = 0

            def count(*_, name=name):
                calls[name] += 1

            part.register_forward_hook(count)
    return calls
