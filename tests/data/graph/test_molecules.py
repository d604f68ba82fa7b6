"""Tables of SMILES: classes, targets, rows that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.data import SmilesTable

ROWS = [("C" * (i % 5 + 1) + ("O" if i % 2 else "N"), i) for i in range(23)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pytest.importorskip("rdkit")
    cells = [
        f"{smiles},{'acid' if i % 2 else 'base'},{i / 2},{i % 2},{'' if i % 3 else 1}"
        for smiles, i in ROWS
    ]
    path = tmp_path / "molecules.csv"
    path.write_text("\n".join(["smiles,label,weight,a,b", *cells]))
    return path


def ready(path: Path, **options: object) -> SmilesTable:
    data = SmilesTable(str(path), num_folds=3, **options)
    data.setup()
    return data


def test_classes_values_and_label_sets(table: Path) -> None:
    data = ready(table)
    assert (data.class_names, data.num_classes) == (["acid", "base"], 2)
    batch = next(iter(data.batches("test")))
    first = batch[0]
    has_oxygen = bool(first.x[:, 8].any())  # one-hot atomic numbers come first
    assert int(first.y) == int(not has_oxygen)
    assert first.edge_attr.shape[0] == first.edge_index.shape[1] == 2 * (len(first.x) - 1)
    values = ready(table, label="weight", regression=True)
    assert values.num_classes == 0
    sets = ready(table, targets=["a", "b"])
    assert (sets.num_classes, sets.class_names) == (2, ["a", "b"])
    assert set(next(iter(sets.batches("train"))).y[:, 1].tolist()) == {1, -100}
    packed = data.pack(["CCO", batch[0]])
    assert packed.num_graphs == 2


def test_rows_that_cannot_be_read(table: Path) -> None:
    with table.open("a") as file:
        file.write("\nC(((,acid,1,1,1")
    with pytest.raises(ValueError, match=r"got the SMILES 'C\(\(\(' in row 24, which rdkit cannot"):
        ready(table)
    with pytest.warns(UserWarning, match="left out 1 rows of this kind"):
        data = ready(table, skip_invalid=True)
    assert sum(len(b.y) for s in ("train", "val", "test") for b in data.batches(s)) == 23
    with pytest.raises(ValueError, match="inputs: got the SMILES 'not a molecule'"):
        data.pack(["not a molecule"])
    with pytest.raises(ValueError, match="got no column 'weigth', expected one of"):
        ready(table, label="weigth", regression=True)
