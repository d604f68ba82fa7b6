"""Memory and gradients of a measured step."""

from __future__ import annotations

import torch

from graphformer.cli.profiling import forward_backward, peak_memory


def test_peak_memory_sees_what_lives_at_once_and_not_what_is_freed() -> None:
    x = torch.randn(1009, 1013)
    size = x.numel() * x.element_size()

    def one_after_another() -> None:
        for _ in range(5):
            x + 1

    def all_at_once() -> None:
        [x + i for i in range(5)]

    assert size <= peak_memory(one_after_another) < 1.5 * size
    assert 5 * size <= peak_memory(all_at_once) < 5.5 * size


def test_forward_backward_leaves_gradients() -> None:
    linear = torch.nn.Linear(7, 5)
    forward_backward(lambda: linear(torch.ones(3, 7)))()
    assert linear.weight.grad is not None
