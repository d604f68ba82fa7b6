"""The table of names against a dictionary."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from graphformer.data.graph.out_of_core.names import NameIndex, NodeNames, Texts, write_names


def texts(names: list[str]) -> Texts:
    encoded = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(encoded), np.uint8), starts)


def index_of(names: list[str], folder: Path, chunk: int = 101) -> NameIndex:
    parts = [texts(names[start : start + chunk]) for start in range(0, len(names), chunk)]
    return NameIndex(write_names(folder, parts))


def test_names_are_found(tmp_path: Path) -> None:
    draw = random.Random(0)
    names = list({"".join(draw.choices("abäß", k=draw.randint(1, 7))) for _ in range(1999)})
    index = index_of(names, tmp_path)
    numbers = {name: number for number, name in enumerate(names)}
    query = draw.choices(names, k=997)
    assert index.find(texts(query)).tolist() == [numbers[name] for name in query]
    assert len(NodeNames(tmp_path)) == len(names)
    with pytest.raises(ValueError, match="got the node 'x', expected a name in the table of nodes"):
        index.find(texts(["a", "x"]))
    assert index.find(texts([])).tolist() == []


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got the name 'b' of a second node in row 4"):
        index_of(["a", "b", "c", "b"], tmp_path)
