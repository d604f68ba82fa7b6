"""Written graphs: random splits, wrong fields, and nothing left of a failed write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.stored_graphs import arrays, store

from graphformer.data import RandomSplit, convert_arrays, write_graph
from graphformer.data.graph.out_of_core.npy import NpyWriter


def test_random_splits_divide_the_labelled_nodes(tmp_path: Path) -> None:
    y = np.arange(997) % 4
    y[::5] = -100
    ring = np.stack([np.arange(997), np.roll(np.arange(997), 1)])
    graph = convert_arrays(
        tmp_path / "graph",
        edge_index=ring,
        x=np.ones((997, 1), np.float32),
        y=y,
        splits=RandomSplit(val=0.2, test=0.3, seed=1),
    )
    train, val, test = (graph.split_nodes(s).numpy() for s in ("train", "val", "test"))
    together = np.concatenate([train, val, test])
    assert np.array_equal(np.sort(together), np.flatnonzero(y != -100))
    assert abs(len(val) / len(together) - 0.2) < 0.06
    assert abs(len(test) / len(together) - 0.3) < 0.06
    assert graph.num_classes == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((7, 2))}, "x: got 7 rows, expected 11, one for each node"),
        ({"x": np.full((11, 2), np.nan)}, "x: got NaN or an infinite value at node 0, expected"),
        ({"y": np.full(11, -1)}, "y: got the label -1, expected classes from 0"),
    ],
)
def test_a_wrong_field_is_named_and_leaves_nothing(
    change: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    fields = {"x": np.ones((11, 2)), "y": np.arange(11) % 2, **change}
    with pytest.raises(ValueError, match=message):
        write_graph(
            tmp_path / "graph",
            num_nodes=11,
            edges=[np.array([[0], [1]])],
            fields={name: [value] for name, value in fields.items()},
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_splits_and_an_existing_folder_are_refused(tmp_path: Path) -> None:
    arguments = {"num_nodes": 11, "edges": [np.array([[0], [1]])], "fields": {}}
    for splits, message in (
        ({"train": np.array([11])}, "splits: got node 11 for train, expected some from 0 to 10"),
        ({"train": np.zeros(11, bool)}, "splits: got 0 nodes for train"),
        (RandomSplit(val=0.0), r"splits: got val 0.0 and test 0.2, expected both above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            write_graph(tmp_path / "graph", **arguments, splits=splits)
    store(tmp_path / "graph", arrays())
    with pytest.raises(FileExistsError, match="folder: got .*graph, which exists; remove it"):
        write_graph(tmp_path / "graph", **arguments)


def test_an_array_written_in_chunks_is_read_by_numpy(tmp_path: Path) -> None:
    rows = np.arange(3 * 1013, dtype=np.float16).reshape(1013, 3)
    with NpyWriter(tmp_path / "a.npy", np.float16, (3,)) as file:
        file.append(rows[:7])
        file.append(rows[7:])
        with pytest.raises(ValueError, match=r"a: got rows of shape \(2,\), expected \(3,\)"):
            file.append(rows[:, :2])
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)
