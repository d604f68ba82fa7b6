"""Properties that are computed once, outside of inference mode."""

from __future__ import annotations

import pytest
import torch

from graphformer.adjacency.cached_property import (
    cached_property,
    compute_uncached,
    outside_inference_mode,
)


class Squares:
    """Counts how often its property is computed."""

    computed = 0

    @cached_property
    def squares(self) -> torch.Tensor:
        """The squares of 0 to 4."""
        self.computed += 1
        return torch.arange(5) ** 2

    def _compute(self, name: str) -> torch.Tensor:
        value = compute_uncached(self, name)
        setattr(self, name, value)
        return value


def test_computed_on_first_use_and_once():
    instance = Squares()
    assert instance.computed == 0
    assert instance.squares is instance.squares
    assert instance.squares.tolist() == [0, 1, 4, 9, 16]
    assert instance.computed == 1
    assert Squares().computed == 0
    assert compute_uncached(instance, "squares") is not instance.squares


def test_on_the_class_it_is_the_descriptor():
    assert isinstance(Squares.squares, cached_property)
    assert Squares.squares.__doc__ == "The squares of 0 to 4."
    assert Squares.squares.name == "squares"


def test_values_are_no_inference_tensors():
    instance = Squares()
    with torch.inference_mode():
        assert not instance.squares.is_inference()
        assert torch.ones(2).is_inference(), "the mode is on again afterwards"


def test_functions_run_outside_of_inference_mode():
    @outside_inference_mode
    def ones(size: int, *, fail: bool = False) -> torch.Tensor:
        """Return ones."""
        if fail:
            raise RuntimeError("failed")
        return torch.ones(size)

    assert ones.__doc__ == "Return ones."
    assert ones(3).shape == (3,)
    with torch.inference_mode():
        assert not ones(3).is_inference()
        with pytest.raises(RuntimeError, match="failed"):
            ones(3, fail=True)
        assert torch.is_inference_mode_enabled()
    weight = torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        constant = ones(3)
    (weight * constant).sum().backward()
    assert weight.grad is not None
