from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphformer import models, patterns
from graphformer.batch_type import IGNORE_INDEX
from graphformer.data import MissingDataError, StandardLibrary, TextFile
from graphformer.data.text.blocks import PackedBlocks
from graphformer.data.text.token_cache import token_dtype


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + i * i % 23) for i in range(1009)), encoding="utf-8")
    return path


def whole_text(data: TextFile, split: str) -> str:
    return "".join(text for text, _ in data.pieces(split))


@given(st.integers(2, 97), st.integers(1, 31), st.integers(1, 7))
def test_covering_blocks_lose_nothing(size: int, block_size: int, batch_size: int) -> None:
    tokens = np.arange(size) * 3
    blocks = PackedBlocks(tokens, block_size, stride=block_size)
    batches = [blocks[index] for index in torch.arange(len(blocks)).split(batch_size)]
    assert torch.cat([b.x for b in batches]).tolist() == tokens[:-1].tolist()
    assert torch.cat([b.y for b in batches]).tolist() == tokens[1:].tolist()
    for batch in batches:
        assert sum(batch.lengths) == len(batch.x)
        assert all(0 < length <= block_size for length in batch.lengths)
        assert batch.pos.tolist() == [p for length in batch.lengths for p in range(length)]


@pytest.mark.parametrize("across", [False, True])
def test_documents_are_packed_without_attention_or_labels_across_them(across: bool) -> None:
    tokens, starts = np.arange(23), np.array([0, 5, 6, 13])
    blocks = PackedBlocks(tokens, 7, stride=7, starts=starts, across=across)
    batch = blocks[torch.arange(len(blocks))]
    document = np.searchsorted(starts, batch.x.numpy(), side="right")
    pieces = (5, 1, 1, 6, 1, 7, 1)
    assert (batch.documents if across else batch.lengths) == pieces
    follows = np.isin(batch.x.numpy() + 1, starts)
    assert batch.y[follows].tolist() == [IGNORE_INDEX] * 3
    assert torch.equal(batch.y[~follows], batch.x[~follows] + 1)
    sees = (patterns.Causal() & patterns.Documents() if across else patterns.Causal())(batch)
    source, target = sees.edge_index.numpy()
    assert (document[source] == document[target]).all()
    assert sees.num_edges == sum(n * (n + 1) // 2 for n in pieces)
    expected = [7, 7, 7, 1] if across else pieces
    assert batch.pos.tolist() == [p for length in expected for p in range(length)]


def test_a_documents_output_keeps_its_bits_when_its_neighbour_changes() -> None:
    torch.manual_seed(0)
    network = models.language_model(29, dim=16, depth=2, num_heads=2)
    outputs = []
    for last in (np.arange(11, 18), np.arange(18, 25)):
        tokens = np.concatenate([np.arange(11), last])
        block = PackedBlocks(tokens, 17, stride=17, starts=np.array([0, 11]))[torch.tensor([0])]
        outputs.append(network(block, patterns.Causal()(block)))
    assert torch.equal(outputs[0][:11], outputs[1][:11])
    assert not torch.equal(outputs[0][11:], outputs[1][11:])


def test_crops_reach_every_place() -> None:
    crops = PackedBlocks(np.arange(13), 5, stride=1)
    batch = crops[torch.arange(len(crops))]
    assert len(crops) == 8
    assert batch.lengths == (5,) * 8
    assert batch.x.view(8, 5)[:, 0].tolist() == list(range(8))
    assert batch.y.max() == 12


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
    with pytest.raises(ValueError, match="val split.*101 tokens.*block_size 101"):
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
    sizes = {split: sum(f.stat().st_size for f in files[split]) for split in files}
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


TEXT = "Ünder the moon.\n\nA river,\na bridge.\n\n\nNight — 夜.\n" * 5


def make_text(folder: Path, **options: object) -> TextFile:
    (folder / "text.txt").write_bytes(TEXT.encode())
    data = TextFile(str(folder / "text.txt"), 7, 3, val_fraction=0.3, **options)
    data.setup()
    return data


@pytest.mark.parametrize("documents", [None, "file", "line", "paragraph"])
@pytest.mark.parametrize("vocabulary", ["characters", "bytes", "bpe", "wordpiece"])
def test_a_mapped_token_file_equals_memory(
    tmp_path: Path, vocabulary: str, documents: str | None
) -> None:
    options = {"vocabulary": vocabulary, "documents": documents, "vocabulary_size": 300}
    memory, mapped = (make_text(tmp_path, stream=s, **options) for s in (False, True))
    for split in ("train", "val"):
        first, second = memory.stream(split), mapped.stream(split)
        again = make_text(tmp_path, stream=True, **options).stream(split)
        assert isinstance(second.tokens.base, np.memmap)
        assert second.tokens.dtype == np.uint16
        for other in (second, again):
            assert np.array_equal(first.tokens, other.tokens)
            assert (first.starts is None) == (other.starts is None) == (documents is None)
            if documents is not None:
                assert np.array_equal(first.starts, other.starts)
            assert (first.num_bytes, first.num_characters) == (
                other.num_bytes,
                other.num_characters,
            )
    batches = [list(data.train_dataloader()) for data in (memory, mapped)]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.x, other.x)


def test_a_token_file_is_made_once_and_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_text(tmp_path, stream=True)

    def broken(texts: list[str]) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(data.tokenizer, "encode_batch", broken)
        with pytest.raises(OSError, match="disk full"):
            data.stream("train")
    folder = tmp_path / "cache" / "graphformer" / "tokens"
    assert list(folder.iterdir()) == []
    assert data.stream("train").tokens.size > 0
    (made,) = folder.iterdir()
    times = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    same = make_text(tmp_path, stream=True)
    monkeypatch.setattr(same.tokenizer, "encode_batch", broken)
    assert np.array_equal(same.stream("train").tokens, data.stream("train").tokens)
    assert times == {file.name: file.stat().st_mtime_ns for file in made.iterdir()}


def test_large_vocabularies_need_wider_tokens() -> None:
    assert token_dtype(1 << 16) == np.uint16
    assert token_dtype((1 << 16) + 1) == np.uint32


def test_documents_end_with_their_token(tmp_path: Path) -> None:
    data = make_text(tmp_path, special_tokens=True, documents="paragraph")
    stream, tokenizer = data.stream("val"), data.need_tokenizer()
    ends = np.append(stream.starts[1:], len(stream.tokens)) - 1
    assert set(stream.tokens[ends].tolist()) == {tokenizer.eos_id}
    texts = [tokenizer.decode(t.tolist()) for t in np.split(stream.tokens, stream.starts[1:])]
    assert texts[-2:] == ["A river,\na bridge.", "Night — 夜."]


def test_density_is_that_of_the_text(tmp_path: Path) -> None:
    data = make_text(tmp_path, vocabulary="bpe", vocabulary_size=270)
    whole = "".join(text for text, _ in data.pieces("val"))
    characters, length = data.text_density("val")
    count = len(data.stream("val").tokens)
    assert characters * count == pytest.approx(len(whole))
    assert length * count == pytest.approx(len(whole.encode()))
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
def test_a_resumed_text_goes_on_with_the_blocks_it_had_left(tmp_path: Path, stop_at: int) -> None:
    def drawn(skip: int = 0) -> list[list[int]]:
        data = make_text(tmp_path, stream=True, steps_per_epoch=9, documents="line")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        if skip:
            loader.load_state_dict({"epoch": 2, "batches": skip})
        return [batch.x.tolist() for batch in loader]

    assert drawn(stop_at) == drawn()[stop_at:]
