"""`Within`: patterns over the nodes of one type, against masks made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphformer.batch_type import Batch
from graphformer.patterns import (
    Between,
    Causal,
    Complete,
    Edges,
    Grid,
    Pattern,
    PerLayer,
    Window,
    Within,
    load_pattern,
    save_pattern,
)

TYPES = torch.tensor([1, 0, 1, 1, 0, 0, 1])
LENGTHS = (4, 0, 3)
SAMPLE = torch.tensor([0, 0, 0, 0, 2, 2, 2])


def batch(**fields: object) -> Batch:
    return Batch(x=torch.zeros(7, 1), node_type=TYPES, lengths=LENGTHS, **fields)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_nodes_of_other_types_do_not_count(kind: int) -> None:
    place = torch.arange(7)
    same = (SAMPLE[:, None] == SAMPLE) & (TYPES == kind)[:, None] & (TYPES == kind)
    causal = same & (place[:, None] >= place)
    assert torch.equal(Within(kind, Complete())(batch()).to_mask(), same)
    assert torch.equal(Within(kind, Causal())(batch()).to_mask(), causal)


def test_a_window_counts_nodes_of_the_type() -> None:
    expected = torch.zeros(7, 7, dtype=torch.bool)
    for target, sources in {0: (0, 2), 2: (0, 2, 3), 3: (2, 3), 6: (6,)}.items():
        expected[target, list(sources)] = True
    assert torch.equal(Within(1, Window(1))(batch()).to_mask(), expected)


def test_a_grid_reads_the_shapes_of_images_between_other_nodes() -> None:
    types = torch.tensor([0, 0, 0, 1, 1, 0, 0, 1])  # 1 x 3 patches, no image, 2 x 1 patches
    images = Batch(
        x=torch.zeros(8, 1), node_type=types, lengths=(4, 1, 3), shapes=((1, 3), (0, 0), (2, 1))
    )
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for i, j in [(0, 1), (1, 2), (5, 6)]:
        expected[i, j] = expected[j, i] = True
    expected[[0, 1, 2, 5, 6], [0, 1, 2, 5, 6]] = True
    assert torch.equal(Within(0, Grid(1))(images).to_mask(), expected)


def test_patterns_that_read_other_fields_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="batch.shapes: got None"):
        Within(0, Grid(1))(batch())
    with pytest.raises(ValueError, match="batch.edge_index: got None"):
        Within(0, Edges())(batch(edge_index=torch.zeros(2, 0, dtype=torch.int64)))
    with pytest.raises(ValueError, match="batch.node_type: got None"):
        Within(0, Complete())(Batch(x=torch.zeros(7, 1)))
    with pytest.raises(ValueError, match="pattern: got a PerLayer, expected a pattern that makes"):
        Within(0, PerLayer((Causal(), Complete())))


def test_it_is_stored_with_its_pattern(tmp_path: Path) -> None:
    pattern: Pattern = Within(0, Grid(2) | Window(1)) | Between(target=1, source=0)
    save_pattern(pattern, tmp_path / "pattern.json")
    assert load_pattern(tmp_path / "pattern.json") == pattern
