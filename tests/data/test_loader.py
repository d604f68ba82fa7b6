from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.loader import BatchLoader, BatchSampler, is_padding


class Numbers:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Tensor) -> Data:
        return Data(x=index, lengths=(1,) * len(index))


class Recorder(pl.LightningModule):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.stop_at = stop_at

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        self.seen.append(batch.x.tolist())
        return self.weight * batch.x.float().mean()

    def on_train_batch_end(self, *args: Any) -> None:
        if len(self.seen) == self.stop_at:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "stopped.ckpt")
            raise KeyboardInterrupt

    def on_train_epoch_end(self) -> None:
        if len(self.seen) == 5:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "epoch.ckpt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_loader(num_workers: int = 0) -> BatchLoader:
    return BatchLoader(
        Numbers(23), BatchSampler(23, 5, shuffle=True, seed=3), num_workers=num_workers
    )


def make_trainer(folder: Path) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def indices(order: BatchSampler, epoch: int) -> list[int]:
    order.set_epoch(epoch)
    return torch.cat(list(order)).tolist()


@given(st.integers(1, 60), st.integers(1, 13), st.booleans(), st.integers(0, 9))
def test_an_epoch_visits_every_item_once(items: int, size: int, shuffle: bool, seed: int) -> None:
    order = BatchSampler(items, size, shuffle=shuffle, seed=seed)
    batches = list(order)
    assert len(batches) == len(order)
    assert sorted(torch.cat(batches).tolist()) == list(range(items))
    assert all(len(batch) == size for batch in batches[:-1])


def test_order_depends_on_seed_and_epoch_only() -> None:
    order, same = (BatchSampler(101, 7, shuffle=True, seed=1) for _ in range(2))
    other = BatchSampler(101, 7, shuffle=True, seed=2)
    torch.manual_seed(0)
    first = indices(order, 0)
    torch.manual_seed(1)
    assert indices(same, 0) == first
    assert indices(order, 1) != first
    assert indices(order, 0) == first
    assert indices(other, 0) != first
    assert indices(other, 0) != indices(order, 1)


def test_drawing_gives_the_asked_number_of_full_batches() -> None:
    order = BatchSampler(11, 5, num_batches=7)
    batches = list(order)
    assert len(order) == len(batches) == 7
    assert all(len(batch) == 5 for batch in batches)
    assert indices(order, 0) != indices(order, 1)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_ranks_share_the_batches_of_one_process(
    items: int, size: int, world: int, shuffle: bool
) -> None:
    """All ranks take equally many steps; what is left over once is padding, which is marked."""
    one = [b.tolist() for b in BatchSampler(items, size * world, shuffle=shuffle, seed=7)]
    steps: list[list[int]] = [[] for _ in one]
    for rank in range(world):
        order = BatchSampler(items, size, shuffle=shuffle, seed=7)
        order.shard(rank, world)
        batches = list(BatchLoader(Numbers(items), order))
        assert len(batches) == len(order) == len(one)
        for step, batch in enumerate(batches):
            assert len(batch.x)
            assert is_padding(batch) == (step >= order.num_filled)
            steps[step] += [] if is_padding(batch) else batch.x.tolist()
    assert [sorted(step) for step in steps] == [sorted(batch) for batch in one]


def test_an_odd_item_does_not_stop_other_ranks() -> None:
    """4,097 items on 2 ranks."""
    lengths = set()
    for rank in range(2):
        order = BatchSampler(4097, 16, shuffle=True)
        order.shard(rank, 2)
        lengths.add((len(order), len(list(order)), order.num_filled))
    assert lengths == {(129, 129, 129), (129, 129, 128)}


def test_ranks_draw_what_one_process_draws() -> None:
    one = list(BatchSampler(11, 6, num_batches=7, seed=3))
    shares = []
    for rank in range(2):
        order = BatchSampler(11, 3, num_batches=7, seed=3)
        order.shard(rank, 2)
        shares.append(list(order))
    for batch, *parts in zip(one, *shares, strict=True):
        assert torch.equal(torch.stack(parts, dim=1).flatten(), batch)


@pytest.mark.parametrize(("size", "batches"), [(0, None), (-1, None), (5, 0)])
def test_sizes_below_1_are_refused(size: int, batches: int | None) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        BatchSampler(11, size, num_batches=batches)


def test_workers_give_the_same_batches_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    plain = [batch.x.tolist() for batch in make_loader()]
    assert [batch.x.tolist() for batch in make_loader(num_workers=1)] == plain
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop_at", [1, 3, 5, 7, 10, 12])
def test_a_killed_run_resumes_with_the_batches_it_had_left(tmp_path: Path, stop_at: int) -> None:
    whole = Recorder()
    make_trainer(tmp_path / "whole").fit(whole, make_loader())
    assert whole.seen[:5] != whole.seen[5:10]
    first = Recorder(stop_at)
    with pytest.raises(SystemExit):
        make_trainer(tmp_path / "first").fit(first, make_loader())
    second = Recorder()
    checkpoint = str(tmp_path / "first" / "stopped.ckpt")
    make_trainer(tmp_path / "second").fit(second, make_loader(), ckpt_path=checkpoint)
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight)


def test_a_run_resumes_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    whole = Recorder()
    make_trainer(tmp_path / "whole").fit(whole, make_loader())
    second = Recorder()
    checkpoint = str(tmp_path / "whole" / "epoch.ckpt")
    make_trainer(tmp_path / "second").fit(second, make_loader(), ckpt_path=checkpoint)
    assert second.seen == whole.seen[5:]
