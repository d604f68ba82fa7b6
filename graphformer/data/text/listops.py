"""ListOps: nested operations on digits, as token sequences and as trees."""

from __future__ import annotations

import numpy as np

from graphformer.data.io.tabular import find_file, read_table
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath, SampleFiles

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM", "[FIRST", "[LAST")
TOKENS = (*map(str, range(10)), *OPERATORS, "]")
_IDS = {token: i for i, token in enumerate(TOKENS)}
_Sample = tuple[np.ndarray, int, np.ndarray]  # token ids [n], value, edges [2, e]


def parse_expression(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids of an expression, [n], and the edges of its tree, [2, e].

    Parentheses, which some versions of the data have, are redundant and left out. A list is
    represented by its closing bracket: edges lead to it from the list's operator and from each
    member, which is a digit or the closing bracket of a nested list. The last token is the root.

    Raises:
        ValueError: when a token is unknown, or when brackets do not match.

    Source: Nangia and Bowman, 2018, "ListOps: a diagnostic dataset for latent tree learning".
    """
    tokens = text.replace("(", " ").replace(")", " ").split()
    edges: list[tuple[int, int]] = []
    open_lists: list[list[int]] = [[]]  # positions of each open list's members, outermost first
    for position, token in enumerate(tokens):
        if token not in _IDS:
            raise ValueError(f"unknown token {token!r}; expected one of {' '.join(TOKENS)}")
        if token in OPERATORS:
            open_lists.append([position])
            continue
        if token == "]":
            if len(open_lists) == 1:
                raise ValueError("a closing bracket has no opening one")
            edges += [(member, position) for member in open_lists.pop()]
        open_lists[-1].append(position)
    if len(open_lists) != 1 or len(open_lists[0]) != 1:
        raise ValueError(
            f"expected one complete expression, got {len(open_lists[0])} and "
            f"{len(open_lists) - 1} open brackets"
        )
    ids = np.array([_IDS[token] for token in tokens], np.int64)
    return ids, np.array(edges, np.int64).reshape(-1, 2).T


class ListOps(SampleFiles[_Sample]):
    """Expressions and their values, digits: as sequences, and as trees by `edge_index`.

    A batch has x (token ids, [N]), pos [N], lengths, y [B], and edge_index [2, E] from a list's
    members to its closing bracket. The last token of a sample is the root of its tree.

    Args:
        path: lines of `value<TAB>expression`.
        max_length: longer expressions are left out.
        max_tokens: the budget of a batch.
        max_edges: its budget of edges, counted as all pairs of an expression's tokens, so that the
            batches do not depend on the pattern.
        val_fraction, test_fraction: of the expressions, at random.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when the file does not exist.
        ValueError: when a line is not a value and an expression; the message names it.
    """

    vocab_size = len(TOKENS)
    num_classes = 10
    counts_all_pairs = True

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
        super().__init__(
            {"train": path},
            fractions=(val_fraction, test_fraction),
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.max_length = max_length

    def samples(self, split: str) -> Ragged:
        """Return the token ids of a split's expressions, their values and their trees."""
        rows = self.splits[split]
        return Ragged([x for x, _, _ in rows], [y for _, y, _ in rows], [e for *_, e in rows])

    def read(self, path: FilePath) -> list[_Sample]:
        """Return the expressions of a file that are not too long."""
        file = find_file(path, self.root)
        samples = []
        for number, (value, expression, *_) in read_table(file, 2):
            try:
                if value not in _IDS or not value.isdecimal():
                    raise ValueError(f"the value is {value!r}; expected a digit")
                ids, edges = parse_expression(expression)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from None
            if len(ids) <= self.max_length:
                samples.append((ids, int(value), edges))
        return samples
