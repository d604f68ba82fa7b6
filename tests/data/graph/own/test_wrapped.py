"""Own graphs that are sampled or divided: new files are read as the training file was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graphformer.cli.errors import UsageError
from graphformer.cli.predicted_split import choose_split, own_graph
from graphformer.data import FullGraph, NeighborNodes, NodeTables
from graphformer.data.base import DataModule
from graphformer.distributed import PartitionedGraph
from graphformer.models import gcn
from graphformer.tasks import Classification

WRAPPERS: list[Callable[[FullGraph], DataModule]] = [
    lambda graph: NeighborNodes(graph, [3]),
    PartitionedGraph,
]


def tables(folder: Path, colours: str, labels: str) -> NodeTables:
    """A graph of a node for each letter, in a ring."""
    rows = [f"{i},{c},{label}" for i, (c, label) in enumerate(zip(colours, labels, strict=True))]
    folder.mkdir()
    header = "id,colour" if labels.isspace() else "id,colour,label"
    (folder / "nodes.csv").write_text("\n".join([header, *(row.rstrip(", ") for row in rows)]))
    edges = [f"{i},{(i + 1) % len(rows)}" for i in range(len(rows))]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]))
    return NodeTables(
        str(folder / "nodes.csv"), str(folder / "edges.csv"), categories=["colour"],
        val_fraction=0.2,
    )  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("early", [True, False])
def test_new_nodes_have_the_categories_and_classes_of_training(
    tmp_path: Path, wrap: Callable[[FullGraph], DataModule], early: bool
) -> None:
    trained = wrap(tables(tmp_path / "a", "rgbrgbr", "xyzxyzx"))
    trained.setup()
    next(iter(trained.train_dataloader()))  # after it, PartitionedGraph has no graph
    state = trained.state_dict()
    new = wrap(tables(tmp_path / "b", "bbggb", "xyxyx" if not early else " " * 5))
    if early:
        new.load_state_dict(state)
        new.setup()
    else:  # as Lightning does
        new.setup()
        new.load_state_dict(state)
    source = own_graph(new)
    assert source is not None
    assert source.graph is not None
    assert source.graph.x.argmax(1).tolist() == [0, 0, 1, 1, 0]  # of the categories b, g, r
    assert source.graph.x.shape[1] == 3
    assert new.num_classes == 3
    if early:
        task = Classification(gcn(3, 3, dim=4), num_classes=3, level="node")
        with pytest.raises(UsageError, match="got no labelled nodes in the split test"):
            choose_split(task, new, "test")
