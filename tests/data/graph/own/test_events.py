"""Events at known times: neighbours before the event, as PyG's loader has them, and training."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch_geometric.nn.models.tgn import LastNeighborLoader, TimeEncoder

from graphformer import models, nn, patterns, tasks
from graphformer.data import EventLinks
from graphformer.data.graph.own.events import Events, History

NODES, COUNT, SIZE = 7, 41, 3


def draw_events(*, distinct: bool) -> Events:
    generator = np.random.default_rng(0)
    source, target = generator.integers(NODES, size=(2, COUNT))
    target = np.where(target == source, (target + 1) % NODES, target)
    time = np.arange(COUNT) * 1.5 if distinct else np.sort(generator.integers(9, size=COUNT))
    return Events(source, target, time.astype(np.float64), None)


def write_events(folder: Path, count: int = COUNT) -> str:
    """Write events whose target is the last one of the source: the past tells the future."""
    generator = np.random.default_rng(0)
    lines, last = ["time,source,target,weight"], generator.integers(5, 11, size=5)
    for number in generator.permutation(count):  # rows need not be sorted
        user = int(number) % 5
        lines.append(f"{number},u{user},i{last[user]},{number % 2}")
    (folder / "events.csv").write_text("\n".join(lines))
    return str(folder / "events.csv")


def test_neighbours_are_those_of_pyg() -> None:
    events = draw_events(distinct=True)
    history, loader = History(events, NODES), LastNeighborLoader(NODES, SIZE)
    for number in range(COUNT):
        ends = torch.tensor([events.source[number], events.target[number]])
        n_id, edge_index, e_id = loader(ends)
        source, target = n_id[edge_index]
        expected = set(zip(source.tolist(), target.tolist(), e_id.tolist(), strict=True))
        found = history.neighborhoods(ends.numpy()[None], events.time[[number]], [SIZE])
        source, target = found.node[found.edge_index]
        actual = set(zip(source.tolist(), target.tolist(), found.event.tolist(), strict=True))
        assert actual == expected
        assert len(found.event) == len(expected)
        loader.insert(ends[:1], ends[1:])


def test_hops_are_before_the_event_too() -> None:
    events = draw_events(distinct=False)
    history = History(events, NODES)
    numbers = np.array([COUNT - 1, 3, 23, 0, 23])
    nodes = np.stack([events.source[numbers], events.target[numbers]], 1)
    times = events.time[numbers]
    found = history.neighborhoods(nodes, times, [2, SIZE])
    for sample in range(len(numbers)):
        inside = found.root[found.edge_index[0]] == sample
        assert (found.root[found.edge_index[1]] == sample).tolist() == inside.tolist()
        assert (events.time[found.event[inside]] < times[sample]).all()
        # By hand: the last events of each node before the time, then of the new nodes.
        known, edges = {int(n) for n in nodes[sample]}, set()
        frontier = sorted(known)
        for size in (2, SIZE):
            new = set()
            for node in frontier:
                past = [
                    e
                    for e in range(COUNT)
                    if node in (events.source[e], events.target[e])
                    and events.time[e] < times[sample]
                ]
                for event in past[-size:]:
                    pair = {int(events.source[event]), int(events.target[event])}
                    (other,) = pair - {node}
                    edges.add((other, node, event))
                    new.add(other)
            frontier = sorted(new - known)
            known |= new
        source, target = found.node[found.edge_index[:, inside]]
        actual = zip(source.tolist(), target.tolist(), found.event[inside].tolist(), strict=True)
        assert sorted(actual) == sorted(edges)
        assert set(found.node[found.root == sample].tolist()) == known


def test_batches_have_times_and_pairs(tmp_path: Path) -> None:
    data = EventLinks(write_events(tmp_path), features=["weight"], fanouts=[SIZE, 2], batch_size=13)
    data.setup()
    assert (data.num_edge_features, data.num_classes) == (1, 2)
    times = []
    for split in ("train", "val", "test"):
        for batch in data.batches(split):
            source, target = batch.edge_index
            size = len(batch.lengths)
            now = batch.node_time.split(batch.lengths)
            assert all(len(own.unique()) == 1 for own in now)
            assert (batch.edge_time < batch.node_time[target]).all()
            assert (batch.node_time[source] == batch.node_time[target]).all()
            assert batch.edge_attr[:, 0].tolist() == (batch.edge_time % 2).tolist()
            first, second = batch.edge_label_index
            assert batch.edge_label.tolist() == [1] * size + [0] * size
            names = np.array(data.names)[batch.n_id.numpy()]
            assert all(name.startswith("u") for name in names[first])
            assert all(name.startswith("i") for name in names[second])
            assert (first[:size] == first[size:]).all()
            assert (second[:size] != second[size:]).all()
            times.append((split, [float(own[0]) for own in now]))
    order = [
        sorted(t for name, ts in times if name == split for t in ts)
        for split in ("train", "val", "test")
    ]
    assert order[0] + order[1] + order[2] == list(range(COUNT))


def test_drawn_nodes_differ_by_epoch_and_not_by_run(tmp_path: Path) -> None:
    data = EventLinks(write_events(tmp_path), batch_size=COUNT)
    data.setup()
    loader, again = data.batches("train"), data.batches("train")
    first, repeated = next(iter(loader)), next(iter(again))
    assert torch.equal(first.edge_label_index, repeated.edge_label_index)
    drawn = loader.dataset.drawn.copy()
    loader.sampler.set_epoch(1)
    next(iter(loader))
    assert (loader.dataset.drawn != drawn).any()
    validation = data.batches("val")
    kept = next(iter(validation))
    validation.sampler.set_epoch(1)
    assert torch.equal(next(iter(validation)).n_id, kept.n_id)


def test_features_of_time_are_those_of_pyg() -> None:
    theirs, ours = TimeEncoder(5), nn.TimeEncoding(5)
    with torch.no_grad():
        ours.frequency.copy_(theirs.lin.weight[:, 0])
        ours.phase.copy_(theirs.lin.bias)
    elapsed = torch.rand(11) * 9
    torch.testing.assert_close(ours(elapsed), theirs(elapsed))


def test_a_model_learns_from_the_past(tmp_path: Path) -> None:
    pl.seed_everything(0)
    data = EventLinks(write_events(tmp_path, 307), fanouts=[4], batch_size=23, seed=1)
    data.setup()
    network = models.graph_transformer(1, 8, dim=8, depth=1, num_heads=2, num_time_features=5)
    batch = next(iter(data.batches("train")))
    adjacency = patterns.Edges()(batch)
    later = batch.clone()
    later.node_time = batch.node_time + 1
    assert not torch.equal(network(batch, adjacency), network(later, adjacency))
    task = tasks.EdgeClassification(network, patterns.Edges(), dim=8, num_classes=2, lr=0.02)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, data)
    assert all(p.isfinite().all() for p in task.parameters())
    assert not torch.equal(network.edges.time.frequency, nn.TimeEncoding(5).frequency)
    with pytest.raises(ValueError, match=r"batch.*edge_time.*features of time"):
        network(batch.clone().update({"edge_time": None}), adjacency)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fanouts": []}, r"fanouts: got \[\], expected numbers of 1 or more"),
        ({"fanouts": [0]}, r"fanouts: got \[0\]"),
        ({"val_fraction": 0.0}, "val_fraction and test_fraction: got 0.0 and 0.15"),
        ({"time": "target"}, "got 'i.*' in row 1 of the column 'target', expected a number"),
        ({"target": "weight", "features": ["colour"]}, "got no column 'colour'"),
    ],
)
def test_wrong_settings_are_named(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        EventLinks(write_events(tmp_path), **settings).setup()  # type: ignore[arg-type]


def test_one_target_and_empty_splits_are_named(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("time,source,target\n0,a,x\n1,b,x\n")
    with pytest.raises(ValueError, match="got one node in the column 'target', expected two"):
        EventLinks(str(tmp_path / "one.csv")).setup()
    (tmp_path / "two.csv").write_text("time,source,target\n0,a,x\n1,b,y\n")
    data = EventLinks(str(tmp_path / "two.csv"))
    with pytest.raises(RuntimeError, match="has no events yet"):
        data.batches("train")
    data.setup()
    with pytest.raises(ValueError, match="got 2 events, too few for the val split"):
        data.batches("val")
