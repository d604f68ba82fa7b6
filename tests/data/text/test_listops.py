"""ListOps: expressions, their trees and their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import ListOps
from graphformer.data.text.listops import TOKENS, parse_expression


def evaluate(tokens: list[str]) -> int:
    """The value of an expression, by recursion."""

    def value(place: int) -> tuple[int, int]:
        if tokens[place].isdigit():
            return int(tokens[place]), place + 1
        operator, values, place = tokens[place], [], place + 1
        while tokens[place] != "]":
            one, place = value(place)
            values.append(one)
        values_of = {"[MIN": min, "[MAX": max, "[SM": lambda v: sum(v) % 10,
                     "[MED": lambda v: int(np.median(v)),
                     "[FIRST": lambda v: v[0], "[LAST": lambda v: v[-1]}  # fmt: skip
        return values_of[operator](values), place + 1

    return value(0)[0]


def test_the_tree_determines_the_value(real_data: Callable[[str], Path]) -> None:
    lines = real_data("listops/test_d20a.tsv").read_text().splitlines()[:211]
    for value, expression in (one.split("\t") for one in lines):
        ids, edges = parse_expression(expression)
        tokens = [TOKENS[i] for i in ids]
        assert evaluate(tokens) == int(value)
        children: dict[int, list[int]] = {}
        for member, bracket in edges.T.tolist():
            children.setdefault(bracket, []).append(member)

        def by_tree(node: int, tokens=tokens, children=children) -> int:
            if tokens[node].isdigit():
                return int(tokens[node])
            operator, *members = children[node]
            return evaluate([tokens[operator], *(str(by_tree(m)) for m in members), "]"])

        assert by_tree(len(ids) - 1) == int(value)


def test_an_expression_is_a_tree() -> None:
    ids, edges = parse_expression("( ( ( [MAX 2 ) ( [MIN 4 ) 7 ] ) ) 0 ] )")
    assert [TOKENS[i] for i in ids] == ["[MAX", "2", "[MIN", "4", "7", "]", "0", "]"]
    assert edges.tolist() == [[2, 3, 4, 0, 1, 5, 6], [5, 5, 5, 7, 7, 7, 7]]
    assert parse_expression("7")[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\t[MAX 2", r"line 1: expected one complete expression, got 0 and 1 open"),
        ("3\t2 ]", "line 1: a closing bracket has no opening one"),
        ("3\t[MUL 2 ]", r"line 1: unknown token '\[MUL'"),
        ("3\t2 3", "line 1: expected one complete expression, got 2"),
        ("x\t2", "line 1: the value is 'x'; expected a digit"),
        ("3\t3\n[MAX 2 ]", "line 2: expected 2 columns"),
    ],
)
def test_malformed_expressions_are_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        ListOps(str(tmp_path / "a.tsv")).setup()
    assert "\n" not in str(caught.value)
    assert "a.tsv" in str(caught.value)


def test_listops_batches(real_data: Callable[[str], Path]) -> None:
    data = ListOps(str(real_data("listops/test_d20a.tsv")), max_length=61, max_edges=20_011)
    data.setup()
    sizes = {split: len(data.splits[split]) for split in data.splits}
    assert sizes["val"] == sizes["test"]
    assert sizes["train"] > 7 * sizes["val"]
    batch = next(iter(data.train_dataloader()))
    assert max(batch.lengths) <= 61
    assert sum(n * n for n in batch.lengths) <= 20_011
    last = torch.tensor(batch.lengths).cumsum(0) - 1
    assert all(TOKENS[i] in ("]", *map(str, range(10))) for i in batch.x[last].tolist())
    again = ListOps(str(real_data("listops/test_d20a.tsv")), max_length=61)
    again.setup()
    pairs = zip(data.splits["test"], again.splits["test"], strict=True)
    assert all(np.array_equal(a[0], b[0]) for a, b in pairs)
