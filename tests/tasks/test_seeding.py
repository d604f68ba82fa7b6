"""Generators by sample: of its content, the seed and the step, in any batch and dtype."""

from __future__ import annotations

import pytest
import torch

from graphformer.tasks.seeding import Generators, draw_uniform, sample_generators

TOKENS = torch.tensor([5, 6, 7, 2, 5, 6, 7, 8, 9])
LENGTHS = (3, 1, 3, 2)


def drawn(generators: Generators) -> list[float]:
    return [float(generator.random()) for generator in generators]


def test_equal_samples_have_equal_generators_in_any_batch() -> None:
    first, second, third, fourth = drawn(sample_generators(TOKENS, LENGTHS, seed=0))
    assert first == third
    assert len({first, second, fourth}) == 3
    assert drawn(sample_generators(TOKENS[3:7], (1, 3), seed=0)) == [second, first]


def test_seed_and_step_change_the_draws() -> None:
    keys = [{"seed": 0}, {"seed": 1}, {"seed": 0, "step": 0}, {"seed": 0, "step": 1}]
    assert len({tuple(drawn(sample_generators(TOKENS, LENGTHS, **key))) for key in keys}) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_features_of_all_types(dtype: torch.dtype) -> None:
    x = torch.randn(9, 3).to(dtype)
    numbers = drawn(sample_generators(x, LENGTHS, seed=0))
    assert len(set(numbers)) == 4
    assert drawn(sample_generators(x[3:4], (1,), seed=0)) == numbers[1:2]


def test_uniform_numbers_are_those_of_each_generator() -> None:
    expected = [
        g.random(n) for g, n in zip(sample_generators(TOKENS, LENGTHS, 0), LENGTHS, strict=True)
    ]
    found = draw_uniform(sample_generators(TOKENS, LENGTHS, 0), LENGTHS)
    assert found.tolist() == [number for part in expected for number in part]
