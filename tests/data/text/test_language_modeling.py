from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch_geometric.data import Data

from graphformer.data import MissingDataError, TextFile


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + i * i % 23) for i in range(1009)), encoding="utf-8")
    return path


def whole_text(data: TextFile, split: str) -> str:
    return "".join(text for text, _ in data.pieces(split))


def test_text_is_split_by_position(text_file: Path) -> None:
    data = TextFile(str(text_file), 7, 3, val_fraction=0.2, test_fraction=0.1)
    data.setup("fit")
    text = text_file.read_text()
    splits = {split: whole_text(data, split) for split in ("train", "val", "test")}
    assert splits["train"] + splits["test"] + splits["val"] == text
    assert [len(splits[p]) for p in ("train", "test", "val")] == [706, 101, 202]
    halves = TextFile(str(text_file), 7, 3)
    assert whole_text(halves, "train") + whole_text(halves, "val") == text
    assert whole_text(halves, "test") == whole_text(halves, "val")


def test_training_batches_are_seeded_crops(text_file: Path) -> None:
    data, same = (TextFile(str(text_file), 7, 3, steps_per_epoch=5) for _ in range(2))
    other = TextFile(str(text_file), 7, 3, steps_per_epoch=5, seed=1)
    drawn = []
    for module in (data, same, other):
        module.setup("fit")
        drawn.append(torch.cat([batch.x for batch in module.train_dataloader()]))
    assert drawn[0].shape == (5 * 3 * 7,)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    assert not torch.equal(torch.cat([batch.x for batch in loader]), drawn[0])
    text = text_file.read_text()
    for batch in loader:
        for block in batch.x.split(list(batch.lengths)):
            assert data.decode(block) in text
        assert torch.equal(batch.y.view(3, 7)[:, :-1], batch.x.view(3, 7)[:, 1:])


def test_an_epoch_is_about_one_pass_by_default(text_file: Path) -> None:
    data = TextFile(str(text_file), 7, 3)
    data.setup()
    assert len(data.train_dataloader()) == 908 // 21


def test_checkpoint_vocabulary_replaces_the_texts_own(tmp_path: Path) -> None:
    for name, text in {"a": "abcd" * 50, "b": "bd" * 50}.items():
        (tmp_path / name).write_text(text)
    first, second = (TextFile(str(tmp_path / name), 5, 2) for name in "ab")
    first.setup()
    second.setup()
    state = torch.load(_saved(first.state_dict(), tmp_path), weights_only=True)
    assert second.vocab_size == 2
    second.load_state_dict(state)
    assert second.vocab_size == first.vocab_size == 4
    batch = next(iter(second.val_dataloader()))
    assert set(batch.x.tolist()) == {1, 3}
    second.setup()
    assert second.vocab_size == 4


def _saved(state: dict, folder: Path) -> Path:
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


def test_folder_is_read_in_order(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/1.txt", "c/no.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name * 20)
    data = TextFile(str(tmp_path), 3)
    assert (
        whole_text(data, "train") + whole_text(data, "val")
        == "a/1.txt" * 20 + "\n" + "b/2.txt" * 20
    )


def test_bytes_read_any_file(tmp_path: Path) -> None:
    path = tmp_path / "binary.txt"
    path.write_bytes(bytes(range(256)) * 3)
    data = TextFile(str(path), 11, 2, vocabulary="bytes")
    data.setup()
    assert data.vocab_size == 256
    assert torch.cat([b.x for b in data.val_dataloader()]).tolist() == list(range(179, 255))
    with pytest.raises(ValueError, match="byte 128.*'bytes'"):
        TextFile(str(path), 11, 2).setup()


class Idle(pl.LightningModule):
    """Trains nothing, and keeps the batches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Data] = []

    def training_step(self, batch: Data, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        return self.weight * 1

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_lightning_checkpoint_holds_vocabulary_and_arguments(
    text_file: Path, tmp_path: Path
) -> None:
    data = TextFile(str(text_file), 7, 3, steps_per_epoch=2)
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Idle()
    trainer.fit(model, data)
    assert len(model.seen) == 4
    assert tuple(model.seen[0].lengths) == (7, 7, 7)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    again = TextFile.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert again.hparams == data.hparams
    assert again.decode(data.encode("abc")) == "abc"


def test_missing_and_short_texts_are_explained(tmp_path: Path, text_file: Path) -> None:
    with pytest.raises(MissingDataError, match=r"nowhere\.txt.*put the text there"):
        TextFile("nowhere.txt", root=str(tmp_path)).prepare_data()
    short = TextFile(str(text_file), block_size=101)
    short.setup()
    with pytest.raises(ValueError, match="block_size: got 101, but the val split.*101 tokens"):
        short.val_dataloader()
    with pytest.raises(ValueError, match="val_fraction"):
        TextFile(str(text_file), val_fraction=0.0)
    with pytest.raises(ValueError, match="block_size: got 0"):
        TextFile(str(text_file), block_size=0)
    with pytest.raises(RuntimeError, match="setup"):
        TextFile(str(text_file)).encode("a")


def test_tiny_shakespeare_has_its_known_vocabulary(real_data: Callable[[str], Path]) -> None:
    path = real_data("tinyshakespeare/input.txt")
    data = TextFile("tinyshakespeare/input.txt", root=str(path.parent.parent))
    data.setup()
    assert data.vocab_size == 65
    assert len(data.val_dataloader().dataset.tokens) == 111_540


TEXT = "Ünder the moon.\n\nA river,\na bridge.\n\n\nNight — 夜.\n" * 5


def make_text(folder: Path, **options: object) -> TextFile:
    (folder / "text.txt").write_bytes(TEXT.encode())
    data = TextFile(str(folder / "text.txt"), 7, 3, val_fraction=0.3, **options)
    data.setup()
    return data


def test_density_is_that_of_the_predicted_text(tmp_path: Path) -> None:
    data = make_text(tmp_path, vocabulary="bpe", vocabulary_size=270)
    whole = "".join(text for text, _ in data.pieces("val"))
    characters, length = data.text_density("val")
    first, count = whole[0], len(data.stream("val").tokens) - 1
    assert data.decode(data.stream("val").tokens[:1].tolist()) == first
    assert characters * count == pytest.approx(len(whole) - 1)
    assert length * count == pytest.approx(len(whole.encode()) - len(first.encode()))
    assert count < len(whole)


def test_zip_archives_are_read_as_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        for name in ("texts/b.txt", "texts/a.txt", "texts/no.md"):
            archive.writestr(name, name * 20)
    data = TextFile(str(tmp_path / "texts.zip"), 5, documents="file")
    data.setup()
    pieces = [*data.pieces("train"), *data.pieces("val")]
    assert pieces == [
        ("texts/a.txt" * 20, True),
        (("texts/b.txt" * 20)[:175], True),
        (("texts/b.txt" * 20)[175:], True),
    ]
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="broken.zip is not a readable zip archive"):
        TextFile(str(tmp_path / "broken.zip")).prepare_data()


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_resumed_epoch_has_the_remaining_blocks(tmp_path: Path, stop_at: int) -> None:
    def drawn(skip: int = 0) -> list[list[int]]:
        data = make_text(tmp_path, stream=True, steps_per_epoch=9, documents="line")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        if skip:
            loader.load_state_dict({"epoch": 2, "batches": skip})
        return [batch.x.tolist() for batch in loader]

    assert drawn(stop_at) == drawn()[stop_at:]
