"""Rows and matrices of linear maps, with and without hooks and reparametrisations."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from graphformer.nn.linear import is_plain, linear_rows, weight_of


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Adapter(nn.Linear):
    def forward(self, x):
        return super().forward(x) + x.sum(-1, keepdim=True)


def hooked(linear):
    linear.register_forward_hook(lambda module, args, out: 3 * out)
    return linear


def pruned(linear):
    prune.l1_unstructured(linear, "weight", 0.5)
    return linear


def parametrized(linear):
    parametrize.register_parametrization(linear, "weight", Double())
    return linear


CHANGES = {"hook": hooked, "pruned": pruned, "parametrized": parametrized}


@pytest.fixture
def linear():
    torch.manual_seed(3)
    return nn.Linear(5, 7)


@pytest.mark.parametrize("name", CHANGES)
def test_changed_modules_are_called(name, linear):
    changed, x = CHANGES[name](linear), torch.randn(3, 5)
    assert not is_plain(changed, nn.Linear)
    torch.testing.assert_close(linear_rows(x, changed, slice(2, 5)), changed(x)[:, 2:5])


def test_subclasses_are_called():
    adapter, x = Adapter(5, 7), torch.randn(3, 5)
    assert not is_plain(adapter, nn.Linear)
    assert torch.equal(linear_rows(x, adapter, slice(4)), adapter(x)[:, :4])


@pytest.mark.parametrize("bias", [True, False])
def test_rows_of_a_plain_module(bias):
    linear, x = nn.Linear(5, 7, bias=bias), torch.randn(3, 5)
    assert is_plain(linear, nn.Linear)
    for rows in (slice(3), slice(3, None), slice(2, 6)):
        torch.testing.assert_close(linear_rows(x, linear, rows), linear(x)[:, rows])


def test_hooks_of_all_modules_count(linear):
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not is_plain(linear, nn.Linear)
    finally:
        handle.remove()
    assert is_plain(linear, nn.Linear)


def test_backward_hooks_count(linear):
    linear.register_full_backward_hook(lambda *_: None)
    assert not is_plain(linear, nn.Linear)


@pytest.mark.parametrize("name", ["plain", *CHANGES])
def test_the_matrix_is_that_of_a_call(name):
    torch.manual_seed(3)
    linear = nn.Linear(5, 7, bias=False)
    linear = CHANGES.get(name, lambda module: module)(linear)
    x = torch.randn(3, 5)
    weight = weight_of(linear)
    torch.testing.assert_close(x @ weight.T, linear(x))
    weight.sum().backward()
    assert all(p.grad is not None for p in linear.parameters())
