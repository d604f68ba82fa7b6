"""Batches of sampled neighbourhoods and clusters: coverage, masks and exact resumption."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.graphs import random_graph
from torch import Tensor
from torch_geometric.data import Data

from graphformer.cli.callbacks import ExactResume
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.models import gat
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Classification


class Toy(FullGraph):
    def read(self) -> Data:
        return random_graph()


def test_batches_need_setup_and_a_number_of_clusters() -> None:
    with pytest.raises(RuntimeError, match=r"NeighborNodes has no graph yet; call setup\(\) first"):
        NeighborNodes(Toy(), [3]).train_dataloader()
    with pytest.raises(ValueError, match="clusters: got 0, expected 1 or more, or None"):
        NeighborNodes(Toy(), [3], clusters=0)


def test_setup_reads_the_graph_once() -> None:
    data = NeighborNodes(Toy(), [3])
    data.prepare_data()
    data.setup()
    adjacency = data.adjacency
    data.setup()
    assert data.adjacency is adjacency
    assert (data.num_features, data.num_classes) == (5, 3)


@pytest.mark.parametrize("replace", [False, True])
def test_a_disjoint_batch_has_a_sample_for_each_labelled_node(replace: bool) -> None:
    data = NeighborNodes(Toy(), [3, 2], 7, disjoint=True, replace=replace, eval_fanouts=[-1])
    data.setup()
    for split in ("train", "val"):
        batch = next(iter(data.batches(split)))
        assert len(batch.lengths) == 7
        assert batch[f"{split}_mask"].nonzero().flatten().tolist() == batch.ptr[:-1].tolist()
        source, target = Complete()(batch).edge_index
        assert torch.equal(batch.batch[source], batch.batch[target])
    graph = random_graph()
    first = batch.n_id[batch.ptr[0]]
    degree = int((graph.edge_index[1] == first).sum())
    assert int((batch.edge_index[1] == 0).sum()) == degree, "eval_fanouts draw all neighbours"


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
