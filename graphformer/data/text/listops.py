"""ListOps: nested operations on digits, as tokens and as a tree."""

from __future__ import annotations

import os

import numpy as np

from graphformer.data.base import DataModule
from graphformer.data.io.tabular import find_file, read_table
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.token_budget import budget_loader

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM", "[FIRST", "[LAST")
TOKENS = (*map(str, range(10)), *OPERATORS, "]")
_IDS = {token: i for i, token in enumerate(TOKENS)}
_Sample = tuple[np.ndarray, int, np.ndarray]


def parse_expression(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids [n] of an expression and the edges [2, e] of its tree.

    Parentheses, which some versions of the data have, say nothing and are left out. A closing
    bracket stands for its list: edges go to it from the list's operator and from each member,
    which is a digit or the closing bracket of a list. So a result is known at the last token.

    Raises:
        ValueError: naming what does not belong there.

    Source: Nangia and Bowman, 2018, "ListOps: a diagnostic dataset for latent tree learning".
    """
    tokens = text.replace("(", " ").replace(")", " ").split()
    edges: list[tuple[int, int]] = []
    lists: list[list[int]] = [[]]
    for place, token in enumerate(tokens):
        if token not in _IDS:
            raise ValueError(f"unknown token {token!r}; expected one of {' '.join(TOKENS)}")
        if token in OPERATORS:
            lists.append([place])
            continue
        if token == "]":
            if len(lists) == 1:
                raise ValueError("a bracket closes that was never opened")
            edges += [(member, place) for member in lists.pop()]
        lists[-1].append(place)
    if len(lists) != 1 or len(lists[0]) != 1:
        raise ValueError(
            f"expected one whole expression, got {len(lists[0])} and {len(lists) - 1} open brackets"
        )
    ids = np.array([_IDS[token] for token in tokens], np.int64)
    return ids, np.array(edges, np.int64).reshape(-1, 2).T


class ListOps(DataModule):
    """Expressions and their values, a digit: a sequence, and a tree by `edge_index`.

    A batch has x [N] (token ids), pos [N], `lengths`, y [B], and `edge_index` [2, E] from what is
    in a list to its closing bracket, which is a sample's last token.

    Args:
        path: lines of `value<TAB>expression`.
        max_length: longer expressions are left out.
        max_tokens: the budget of a batch.
        max_edges: its budget of pairs of an expression's tokens, so that every pattern sees the
            same batches.
        val_fraction, test_fraction, seed: of the division, by chance.
        root: the data root.

    Raises:
        MissingDataError: the file is not there.
        ValueError: naming the line that is no value and expression.
    """

    vocab_size = len(TOKENS)
    num_classes = 10

    def __init__(
        self,
        path: str = "listops/test_d20a.tsv",
        *,
        max_length: int = 512,
        max_tokens: int = 2048,
        max_edges: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.seed, self.max_length = path, root, seed, max_length
        self.max_tokens, self.max_edges = max_tokens, max_edges
        self.fractions = (val_fraction, test_fraction)
        self.splits: dict[str, list[_Sample]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the expressions."""
        if not self.splits:
            samples = [s for s in self._read() if len(s[0]) <= self.max_length]
            self.splits = split_samples({"train": samples}, self.fractions, self.seed)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        rows = self.splits[split]
        samples = Ragged([x for x, _, _ in rows], [y for _, y, _ in rows], [e for *_, e in rows])
        budget = {"max_tokens": self.max_tokens, "max_edges": self.max_edges, "seed": self.seed}
        return budget_loader(samples, split, **budget, pairs=True)  # type: ignore[arg-type]

    def _read(self) -> list[_Sample]:
        file = find_file(self.path, self.root)
        samples = []
        for number, (value, expression, *_) in read_table(file, 2):
            try:
                if value not in _IDS or not value.isdecimal():
                    raise ValueError(f"the value is {value!r}; expected a digit")
                ids, edges = parse_expression(expression)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}.") from None
            samples.append((ids, int(value), edges))
        return samples
