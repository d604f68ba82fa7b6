"""The table of docs/support.md: each cell is tried, and compared with the backend `reference`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.attention_cases import randn
from helpers.awkward import random_edges
from torch import Tensor, nn

import graphformer as gf
from graphformer.ops.select import BACKENDS

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
EDGES = gf.from_edge_index(random_edges(7, 7, 19), 7)
RULE = gf.causal([7])
ON_RULES = ("auto, a rule", "sdpa")
"""Rows that are tried with a rule, the others with edges."""
Attend = Callable[[Tensor], Tensor]


def attend_by(row: str, backend: str | None = None) -> Attend:
    backend = row.partition(",")[0] if backend is None else backend
    adjacency = RULE if row in ON_RULES else EDGES

    def attend(x: Tensor) -> Tensor:
        return gf.attention(x, 2 * x, x.sin(), adjacency, backend=backend)

    return attend


class Attention(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)


def of_compile(attend: Attend) -> list[Tensor]:
    torch._dynamo.reset()
    x = randn(7, 2, 3).requires_grad_()
    out = torch.compile(attend, fullgraph=True, backend="aot_eager")(x)
    return [out, *torch.autograd.grad(out.square().sum(), x)]


def of_export(attend: Attend) -> list[Tensor]:
    x = randn(7, 2, 3)
    return [torch.export.export(Attention(attend), (x,)).module()(x)]


def of_autocast(attend: Attend) -> list[Tensor]:
    w, x = randn(3, 3), randn(7, 2, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(x @ w)
    assert out.dtype is torch.bfloat16
    return [out, *torch.autograd.grad(out.float().square().sum(), x)]


def of_grad_vmap(attend: Attend) -> list[Tensor]:
    x = randn(7, 2, 3)
    both = torch.stack([x, x.flip(0)])
    loss = torch.func.grad(lambda x: attend(x).square().sum())
    return [loss(x), torch.func.vmap(attend)(both)]


def of_jvp(attend: Attend) -> list[Tensor]:
    x, tangent = (randn(7, 2, 3, seed=seed) for seed in range(2))
    return list(torch.func.jvp(attend, (x,), (tangent,)))


def of_double_backward(attend: Attend) -> list[Tensor]:
    x = randn(7, 2, 3).requires_grad_()
    (grad,) = torch.autograd.grad(attend(x).square().sum(), x, create_graph=True)
    return list(torch.autograd.grad(grad.square().sum(), x))


TRIED = {
    "compile": of_compile,
    "export": of_export,
    "autocast": of_autocast,
    "grad, vmap": of_grad_vmap,
    "jvp": of_jvp,
    "double backward": of_double_backward,
}


def cells() -> list[tuple[str, str, str]]:
    """Return row, feature and cell of each cell in the page's first table."""
    lines = PAGE.read_text(encoding="utf-8").split("\n\n| backend |")[1].splitlines()
    head, *rows = [
        [cell.replace("`", "").strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: "|" in line, lines)
        if "---" not in line
    ]
    return [(row, name, cell) for row, *body in rows for name, cell in zip(head, body, strict=True)]


def parameters() -> list[object]:
    """Return the cells; compiling takes seconds, so one row of it runs by default."""
    return [
        pytest.param(
            *cell, marks=[pytest.mark.slow] if cell[1] == "compile" and cell[0] != "cpu" else []
        )
        for cell in cells()
    ]


def test_the_page_has_every_backend_and_feature() -> None:
    rows = {"auto, a rule", "auto, edges", *BACKENDS}
    assert {cell[:2] for cell in cells()} == set(itertools.product(rows, TRIED))


@pytest.mark.parametrize(("row", "name", "cell"), parameters())
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_a_cell_is_what_happens(row: str, name: str, cell: str) -> None:
    tried = TRIED[name]
    if cell == "no":
        with pytest.raises((NotImplementedError, RuntimeError)):
            tried(attend_by(row))
        return
    assert cell == "yes"
    # In bfloat16 the rounding of each of the two is a few hundredths of the largest number.
    tolerance = 0.06 if name == "autocast" else 1e-5
    for got, expected in zip(
        tried(attend_by(row)), tried(attend_by(row, "reference")), strict=True
    ):
        error = (got.float() - expected.float()).abs().max() / expected.abs().max()
        assert float(error) < tolerance
