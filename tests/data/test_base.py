"""The base of data modules: loaders of splits, saved settings, the seed of the run."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.base import SPLITS, DataModule, run_seed
from graphformer.data.loader import BatchLoader, BatchSampler


class Numbers:
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: Tensor) -> Data:
        return Data(x=index)


class Module(DataModule):
    def __init__(self, path: str | Path, *, size: int = 3, folder: Path | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.requested: list[str] = []

    def batches(self, split: str) -> BatchLoader:
        self.requested.append(split)
        return BatchLoader(Numbers(), BatchSampler(7, 3))


def test_every_loader_has_the_batches_of_its_split() -> None:
    data = Module("a")
    for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        assert len(loader()) == 3
    data.predict_dataloader()
    assert data.requested == [*SPLITS, "test"]


@pytest.mark.parametrize("form", [str, Path])
def test_paths_are_saved_as_text(tmp_path: Path, form: type) -> None:
    data = Module(form("a/b"), folder=tmp_path)
    for saved in (data.hparams, data.hparams_initial):
        assert dict(saved) == {"path": os.path.join("a", "b"), "size": 3, "folder": str(tmp_path)}
    torch.save(dict(data.hparams), tmp_path / "settings.pt")
    assert torch.load(tmp_path / "settings.pt", weights_only=True) == dict(data.hparams)


def test_a_data_module_without_batches_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DataModule()  # type: ignore[abstract]


def test_the_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert run_seed() == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # so that the call below is undone
    pl.seed_everything(101)
    assert run_seed() == 101


def test_peers_that_share_a_model_get_the_same_batches(tmp_path: Path) -> None:
    """4 processes, of which pairs share a model: the mesh of the strategy counts, not the rank."""
    seen = []
    for rank in range(4):
        data = Module("a")
        ranks = {"num_replicas": 2, "rank": rank // 2}
        strategy = SimpleNamespace(distributed_sampler_kwargs=ranks)
        data.trainer = SimpleNamespace(strategy=strategy)  # type: ignore[assignment]
        seen.append([batch.x.tolist() for batch in data.train_dataloader()])
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0] != seen[2]
