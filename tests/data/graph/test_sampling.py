"""Sampled neighbourhoods and clusters against the whole graph."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

import graphformer as gf
from graphformer.cli.callbacks import ExactResume
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.sampling import extract_subgraph, induced_subgraph, sample_neighbors
from graphformer.models import gat
from graphformer.patterns import Edges
from graphformer.tasks import Classification

NODES, EDGES = 101, 797


def random_graph(nodes: int = NODES, edges: int = EDGES, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    masks = torch.randint(3, (nodes,), generator=generator)
    return Data(
        x=torch.randn(nodes, 5, generator=generator),
        y=torch.randint(3, (nodes,), generator=generator),
        edge_index=edge_index,
        edge_attr=torch.arange(edges),
        train_mask=masks == 0,
        val_mask=masks == 1,
        test_mask=masks == 2,
    )


class Toy(FullGraph):
    def read(self) -> Data:
        return random_graph()


def csr(graph: Data) -> gf.adjacency.CSR:
    return gf.from_edge_index(graph.edge_index, graph.num_nodes, coalesce=False)


@given(
    st.lists(st.sampled_from([-1, 0, 1, 2, 7, 200]), max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_a_sample_is_a_part_of_the_graph(
    fanouts: list[int], replace: bool, disjoint: bool, seed: int
) -> None:
    graph = random_graph()
    seeds = torch.tensor([17, 3, 89])
    options = {"replace": replace, "disjoint": disjoint, "seed": seed}
    sample = sample_neighbors(csr(graph), seeds, fanouts, **options)
    part = extract_subgraph(graph, csr(graph), sample)
    assert torch.equal(part.n_id[:3], seeds)
    assert part.batch_size == 3
    source, target = part.n_id[part.edge_index]
    assert torch.equal(graph.edge_index[:, part.e_id], torch.stack([source, target]))
    assert torch.equal(part.edge_attr, part.e_id)
    assert torch.equal(part.x, graph.x[part.n_id])
    assert sum(sample.num_nodes) == part.num_nodes
    if disjoint:
        assert torch.equal(part.batch[part.edge_index[0]], part.batch[part.edge_index[1]])
        keys = part.batch * NODES + part.n_id
    else:
        keys = part.n_id
    assert len(keys.unique()) == len(keys)
    if not replace:
        assert len(sample.slots.unique()) == len(sample.slots) or disjoint


def test_each_node_draws_its_fan_out_or_all() -> None:
    graph = random_graph()
    degree = graph.edge_index[1].bincount(minlength=NODES)
    sample = sample_neighbors(csr(graph), torch.arange(NODES), [5])
    drawn = sample.edge_index[1].bincount(minlength=NODES)
    assert torch.equal(drawn, degree.clamp(max=5))
    assert sample.num_nodes == [NODES, 0]
    replaced = sample_neighbors(csr(graph), torch.arange(NODES), [97], replace=True)
    assert replaced.num_edges == [97 * int((degree > 0).sum())]


@pytest.mark.parametrize("fanout", [7, 97])  # by Floyd's rule, and by selection
def test_draws_are_even(fanout: int) -> None:
    hub = torch.stack([torch.arange(1, 500), torch.zeros(499, dtype=torch.long)])
    adjacency = gf.from_edge_index(hub, 500)
    counts = torch.zeros(500)
    runs = 2000
    for seed in range(runs):
        slots = sample_neighbors(adjacency, torch.tensor([0]), [fanout], seed=seed).slots
        assert len(slots.unique()) == fanout
        counts[slots] += 1
    share = fanout / 499
    deviation = (counts[:499] - runs * share) / (runs * share * (1 - share)) ** 0.5
    assert deviation.abs().max() < 5
    assert 0.85 < deviation.std() < 1.15


def test_the_seed_alone_decides() -> None:
    adjacency = csr(random_graph())
    first = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=1)
    np.random.seed(0)
    again = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=1)
    other = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=2)
    assert torch.equal(first.slots, again.slots)
    assert not torch.equal(first.slots, other.slots)


def test_with_all_neighbours_seeds_get_what_the_whole_graph_gives_them() -> None:
    graph = random_graph()
    torch.manual_seed(0)
    network = gat(5, 3, dim=7, num_heads=2).eval()
    pattern = Edges(self_loops=True)
    seeds = torch.tensor([2, 61, 7, 97])
    part = extract_subgraph(graph, csr(graph), sample_neighbors(csr(graph), seeds, [-1, -1]))
    with torch.no_grad():
        whole = network(graph, pattern(graph))[seeds]
        sampled = network(part, pattern(part))[:4]
    torch.testing.assert_close(sampled, whole)


def test_a_cluster_has_the_edges_within() -> None:
    graph = random_graph()
    nodes = torch.randperm(NODES, generator=torch.Generator().manual_seed(0))[:53]
    part = extract_subgraph(graph, csr(graph), induced_subgraph(csr(graph), nodes))
    inside = torch.isin(graph.edge_index, nodes).all(0)
    assert torch.equal(part.e_id.sort().values, inside.nonzero().flatten())
    assert torch.equal(part.n_id[part.edge_index], graph.edge_index[:, part.e_id])


def test_awkward_graphs() -> None:
    empty = gf.from_edge_index(torch.empty(2, 0, dtype=torch.long), 3)
    sample = sample_neighbors(empty, torch.tensor([1]), [-1, 5])
    assert (sample.num_nodes, sample.num_edges) == ([1, 0, 0], [0, 0])
    loop = gf.from_edge_index(torch.tensor([[0], [0]]), 1)
    assert sample_neighbors(loop, torch.tensor([0]), [3]).edge_index.tolist() == [[0], [0]]
    assert sample_neighbors(loop, torch.empty(0, dtype=torch.long), [3]).num_nodes == [0, 0]


@pytest.mark.parametrize(
    ("seeds", "fanouts", "error", "message"),
    [
        ([0, 0], [1], ValueError, "seeds must be distinct"),
        ([7], [1], IndexError, "seeds must be nodes from 0 to 6"),
        ([0], [-2], ValueError, "fanouts must be -1"),
    ],
)
def test_senseless_samples_are_refused(
    seeds: list[int], fanouts: list[int], error: type[Exception], message: str
) -> None:
    adjacency = gf.from_edge_index(torch.tensor([[0], [1]]), 7)
    with pytest.raises(error, match=message):
        sample_neighbors(adjacency, torch.tensor(seeds), fanouts)


def test_what_is_no_number_is_refused_and_rules_are_sampled() -> None:
    adjacency = gf.window(7, 1)
    with pytest.raises(TypeError, match="fanouts must be whole numbers, one a layer, got 3"):
        sample_neighbors(adjacency, torch.tensor([1]), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got torch.bool; of a mask take mask.nonzero"):
        sample_neighbors(adjacency, torch.tensor([True, False]), [3])
    sample = sample_neighbors(adjacency, torch.tensor([3]), [-1, np.int64(-1)])
    assert sorted(sample.nodes.tolist()) == [1, 2, 3, 4, 5]
    assert induced_subgraph(adjacency, torch.tensor([0, 1, 3])).edge_index.shape == (2, 5)


def test_cut_refuses_edges_that_were_counted_once() -> None:
    graph = Data(edge_index=torch.tensor([[0, 0], [1, 1]]), num_nodes=2)
    adjacency = gf.from_edge_index(graph.edge_index, 2)
    with pytest.raises(ValueError, match="coalesce=False"):
        extract_subgraph(graph, adjacency, induced_subgraph(adjacency, torch.tensor([0, 1])))


@pytest.mark.parametrize("clusters", [None, 3])
def test_an_epoch_visits_every_labelled_node_once(clusters: int | None) -> None:
    data = NeighborNodes(Toy(), [3, 2], 13, clusters=clusters)
    data.setup()
    graph = random_graph()
    for part in ("train", "val", "test"):
        labelled = [batch.n_id[batch[f"{part}_mask"]] for batch in data.batches(part)]
        found = torch.cat(labelled).sort().values
        assert torch.equal(found, graph[f"{part}_mask"].nonzero().flatten())


class Recorder(Classification):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__(gat(5, 3, dim=3, num_heads=1), Edges(True), num_classes=3, level="node")
        self.seen: list[Tensor] = []
        self.stop_at = stop_at

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        self.seen.append(torch.cat([batch.n_id, batch.e_id]))
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, *args: object) -> None:
        if len(self.seen) == self.stop_at:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "stopped.ckpt")
            raise KeyboardInterrupt


@pytest.mark.parametrize("clusters", [None, 4])
def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path: Path, clusters: int | None) -> None:
    def fit(stop_at: int | None, ckpt: Path | None = None) -> Recorder:
        torch.manual_seed(0)
        task = Recorder(stop_at)
        trainer = pl.Trainer(
            default_root_dir=tmp_path,
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            callbacks=[ExactResume()],
        )
        data = NeighborNodes(Toy(), [3, 2], 13, clusters=clusters)
        trainer.fit(task, data, ckpt_path=ckpt, weights_only=True)
        return task

    whole = fit(None)
    with pytest.raises(SystemExit):
        fit(4)
    rest = fit(None, tmp_path / "stopped.ckpt")
    assert len(rest.seen) == len(whole.seen) - 4
    assert all(torch.equal(a, b) for a, b in zip(rest.seen, whole.seen[4:], strict=True))
    epoch = len(whole.seen) // 3
    assert not torch.equal(whole.seen[0], whole.seen[epoch])
