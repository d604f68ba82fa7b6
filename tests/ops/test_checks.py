"""Wrong use of the attention functions: one sentence that names the argument."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer import ops


def zeros(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"backend": "flash"}, ValueError, "backend: got 'flash', expected one of auto, reference"),
        ({"dropout": 1.01}, ValueError, "dropout: got 1.01, expected a probability"),
        ({"dropout": -0.1}, ValueError, "dropout"),
        ({"dropout": float("nan")}, ValueError, "dropout"),
        ({"q": zeros(5, 4)}, ValueError, r"q, k, v: got .* expected \[nodes, heads, width\]"),
        ({"q": zeros(2, 5, 4, 3)}, ValueError, r"q, k, v: got .* expected \[nodes, heads, width\]"),
        ({"q": zeros(7, 4, 3)}, ValueError, "5 targets x 5 sources"),
        ({"v": zeros(7, 2, 3)}, ValueError, "5 targets x 5 sources"),
        ({"q": zeros(5, 4, 2)}, ValueError, "one width above 0"),
        ({"q": zeros(5, 4, 0), "k": zeros(5, 2, 0)}, ValueError, "one width above 0"),
        ({"q": zeros(5, 3, 3)}, ValueError, "one number of heads"),
        ({"v": zeros(5, 4, 3)}, ValueError, "one number of heads"),
        ({"k": zeros(5, 0, 3), "v": zeros(5, 0, 3)}, ValueError, "one number of heads"),
        ({"q": zeros(5, 4, 3).double()}, TypeError, "expected one float dtype"),
        ({n: zeros(5, 2, 3).long() for n in "qkv"}, TypeError, "expected one float dtype"),
        ({"k": zeros(5, 2, 3).to("meta")}, ValueError, "expected one device"),
        ({"adjacency": torch.ones(5, 5)}, TypeError, "edge_index: got dtype"),
        (
            {"adjacency": [5]},
            TypeError,
            "adjacency: got list, expected a graphformer adjacency",
        ),
        ({"bias": zeros(12)}, ValueError, r"bias: got \[12\], expected \[13\]"),
        ({"bias": zeros(13, 3)}, ValueError, r"bias: got \[13, 3\], expected \[13\] or \[13, 4\]"),
        ({"bias": zeros(13, 4, 1)}, ValueError, r"bias: got \[13, 4, 1\]"),
        ({"bias": torch.tensor(1.0)}, ValueError, r"bias: got \[\]"),
        ({"bias": torch.ones(13, dtype=torch.bool)}, TypeError, "bias: got bool, expected numbers"),
        ({"bias": zeros(13).to("meta")}, ValueError, "bias: got values on meta"),
        ({"edge_weight": zeros(4, 13)}, ValueError, r"edge_weight: got \[4, 13\]"),
    ],
)
def test_errors_name_the_argument(change, error, match):
    adjacency = gf.window(5, 1)
    arguments = {"q": zeros(5, 4, 3), "k": zeros(5, 2, 3), "v": zeros(5, 2, 3)}
    arguments |= {"adjacency": adjacency} | change
    with pytest.raises(error, match=match):
        gf.attention(**arguments)


def test_errors_of_additive_attention():
    adjacency = gf.window(5, 1)
    score, v = zeros(5, 2), zeros(5, 2, 3)
    with pytest.raises(ValueError, match="target_score, source_score: got"):
        gf.additive_attention(zeros(5, 3), score, v, adjacency)
    with pytest.raises(ValueError, match="source_score"):
        gf.additive_attention(score, zeros(7, 2), v, adjacency)
    with pytest.raises(ValueError, match="target_score"):
        gf.additive_attention(score, score, zeros(5, 1, 3), adjacency)
    with pytest.raises(ValueError, match="weight"):
        ops.gatv2_attention(v, v, v, zeros(2, 5), adjacency)


def test_a_csr_on_another_device_is_an_error_and_a_rule_is_moved():
    csr = gf.window(5, 1).to_csr().to("meta")
    q = zeros(5, 2, 3)
    with pytest.raises(ValueError, match="adjacency: got edges on meta"):
        gf.attention(q, q, q, csr)
    assert gf.attention(q, q, q, gf.complete(5).to("meta")).shape == (5, 2, 3)
