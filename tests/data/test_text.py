from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphformer.data import Bytes, Characters, MissingDataError, StandardLibrary, TextFile
from graphformer.data.text import Windows
from graphformer.data.tokens import make_tokenizer, restore_tokenizer


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + i * i % 23) for i in range(1009)), encoding="utf-8")
    return path


@given(st.text(min_size=1))
def test_characters_and_bytes_round_trip(text: str) -> None:
    for tokenizer in (Characters(text), Bytes()):
        ids = tokenizer.encode(text)
        assert ids.dtype == torch.int64
        assert int(ids.max()) < tokenizer.vocab_size
        assert tokenizer.decode(ids) == text
        assert restore_tokenizer(tokenizer.state()).decode(ids) == text


def test_vocabulary_is_sorted_and_refuses_strangers() -> None:
    tokenizer = Characters("hello")
    assert tokenizer.characters == "ehlo"
    assert tokenizer.encode("").tolist() == []
    for stranger in "az€":
        with pytest.raises(ValueError, match=f"{stranger!r}"):
            tokenizer.encode(f"he{stranger}")
    with pytest.raises(ValueError, match="'words'"):
        make_tokenizer("words", "")


@given(st.integers(2, 97), st.integers(1, 31), st.integers(1, 7))
def test_covering_blocks_lose_nothing(size: int, block_size: int, batch_size: int) -> None:
    tokens = np.arange(size) * 3
    blocks = Windows(tokens, block_size, stride=block_size)
    batches = [blocks[index] for index in torch.arange(len(blocks)).split(batch_size)]
    assert torch.cat([b.x for b in batches]).tolist() == tokens[:-1].tolist()
    assert torch.cat([b.y for b in batches]).tolist() == tokens[1:].tolist()
    for batch in batches:
        assert sum(batch.lengths) == len(batch.x)
        assert all(0 < length <= block_size for length in batch.lengths)
        assert batch.pos.tolist() == [p for length in batch.lengths for p in range(length)]


def test_crops_reach_every_place() -> None:
    crops = Windows(np.arange(13), 5, stride=1)
    batch = crops[torch.arange(len(crops))]
    assert len(crops) == 8
    assert batch.lengths == (5,) * 8
    assert batch.x.view(8, 5)[:, 0].tolist() == list(range(8))
    assert batch.y.max() == 12


def test_text_is_split_by_position(text_file: Path) -> None:
    data = TextFile(str(text_file), 7, 3, val_fraction=0.2, test_fraction=0.1)
    data.setup("fit")
    text = text_file.read_text()
    parts = data.read()
    assert parts["train"] + parts["test"] + parts["val"] == text
    assert [len(parts[p]) for p in ("train", "test", "val")] == [706, 101, 202]
    whole = TextFile(str(text_file), 7, 3).read()
    assert whole["train"] + whole["val"] == text
    assert whole["test"] == whole["val"]


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


def test_an_epoch_is_about_one_pass_unless_told(text_file: Path) -> None:
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
    parts = TextFile(str(tmp_path), 3).read()
    assert parts["train"] + parts["val"] == "a/1.txt" * 20 + "\n" + "b/2.txt" * 20


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
    with pytest.raises(ValueError, match="val part.*101 tokens.*block_size 101"):
        short.val_dataloader()
    with pytest.raises(ValueError, match="val_fraction"):
        TextFile(str(text_file), val_fraction=0.0)
    with pytest.raises(ValueError, match="block_size is 0"):
        TextFile(str(text_file), block_size=0)
    with pytest.raises(RuntimeError, match="setup"):
        TextFile(str(text_file)).encode("a")


def test_standard_library_holds_out_whole_files() -> None:
    data = StandardLibrary(31, 5, max_characters=200_000)
    data.setup()
    files = data.files
    assert not set(files["train"]) & set(files["val"])
    assert not set(files["test"]) & set(files["train"] + files["val"])
    sizes = {part: sum(f.stat().st_size for f in files[part]) for part in files}
    assert 150_000 < sum(sizes.values()) <= 200_000
    assert 0.65 < sizes["train"] / sum(sizes.values()) < 0.85
    assert 0.05 < sizes["test"] / sum(sizes.values()) < 0.2
    again = StandardLibrary(31, 5, max_characters=200_000)
    again.setup()
    assert again.files == files
    assert data.decode(data.encode("def f(x):\n")) == "def f(x):\n"


def test_tiny_shakespeare_has_its_known_vocabulary(real_data: Callable[[str], Path]) -> None:
    path = real_data("tinyshakespeare/input.txt")
    data = TextFile("tinyshakespeare/input.txt", root=str(path.parent.parent))
    data.setup()
    assert data.vocab_size == 65
    assert len(data.val_dataloader().dataset.tokens) == 111_540
