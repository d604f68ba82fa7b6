"""Settings of checkpoints: required, optional and unsupported ones."""

from __future__ import annotations

import pytest
from torch import nn

from graphformer.pretrained.config import Config


def config(**values) -> Config:
    return Config(values, "c.json")


def test_required_settings():
    assert config(a=None, b=0).require("a", "b") == 0
    with pytest.raises(ValueError, match=r"c\.json: lacks 'a' or 'b'; add it"):
        config(a=None).require("a", "b")


def test_optional_settings():
    assert config(a=None).get("a", 7) == 7
    assert config(a=0).get("a", 7) == 0


@pytest.mark.parametrize("value", ["many", 0, -3, 2.0, True])
def test_sizes_are_positive_whole_numbers(value):
    assert config(n=13).size("m", "n") == 13
    with pytest.raises(ValueError, match="'n': .*, expected a whole number above 0"):
        config(n=value).size("n")


def test_unsupported_values():
    config(a=None, b=1).check_unset(0, "a", "c")
    config(b=1).check_unset(0, "b", accepted=(1, 2))
    with pytest.raises(ValueError, match="got 'b': 3, expected 0 or 1 or 2; other values are not"):
        config(b=3).check_unset(0, "b", accepted=(1, 2))


def test_activations():
    assert config().activation("act", "relu") is nn.ReLU
    assert config(act="gelu_new").activation("act", "relu")().approximate == "tanh"
    with pytest.raises(ValueError, match="got 'act': 'mish', expected one of gelu, "):
        config(act="mish").activation("act", "relu")


def test_heads_divide_the_width():
    assert config(n=5).num_heads(10, "n") == 5
    with pytest.raises(ValueError, match="got 'n': 3, expected a divisor of the width 10"):
        config(n=3).num_heads(10, "n")


def test_the_number_of_classes():
    assert config().num_labels == 2
    assert config(num_labels=7).num_labels == 7
    assert config(num_labels=7, id2label={"0": "a", "1": "b", "2": "c"}).num_labels == 3
