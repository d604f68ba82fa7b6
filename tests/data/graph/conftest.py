"""Raw files of a small TU data set, and no network."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def toy_tu(tmp_path: Path) -> Path:
    """A data root with the TU set TOY: 41 paths of 2 to 4 nodes, labelled by their length."""
    raw = tmp_path / "root" / "tu" / "TOY" / "raw"
    raw.mkdir(parents=True)
    edges, indicator, labels, offset = [], [], [], 1
    for graph in range(41):
        size = 2 + graph % 3
        for node in range(offset, offset + size - 1):
            edges += [f"{node}, {node + 1}", f"{node + 1}, {node}"]
        indicator += [str(graph + 1)] * size
        labels.append(str(size))
        offset += size
    (raw / "TOY_A.txt").write_text("\n".join([*edges, ""]))
    (raw / "TOY_graph_indicator.txt").write_text("\n".join([*indicator, ""]))
    (raw / "TOY_graph_labels.txt").write_text("\n".join([*labels, ""]))
    return tmp_path / "root"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    for module in ("planetoid", "tu_dataset"):
        monkeypatch.setattr(f"torch_geometric.datasets.{module}.fs.cp", fail)
    for module in ("heterophilous_graph_dataset", "molecule_net"):
        monkeypatch.setattr(f"torch_geometric.datasets.{module}.download_url", fail)
