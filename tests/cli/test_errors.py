"""Errors that the user can correct, and errors that are bugs."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer.cli.errors import UsageError, plain_errors


def test_what_the_library_refuses_is_one_line_and_its_own_mistakes_are_not():
    with pytest.raises(UsageError, match="edge_index: got target 9"), plain_errors():
        gf.from_edge_index(torch.tensor([[0], [9]]), 3)
    with pytest.raises(TypeError, match="'int' object is not iterable"), plain_errors():
        gf.window(3, 1).to_networkx(nodes={"x": 5})  # type: ignore[dict-item]
