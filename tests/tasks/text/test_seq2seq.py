"""Teacher forcing, label smoothing, exact match; contrast of sentences; pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import SymbolPairs, TextPairs
from graphformer.tasks import Classification, SentenceContrast, SequenceToSequence
from graphformer.tasks.text.sentence_contrast import both_views
from graphformer.tasks.warm_start import load_pretrained

SIZES: dict[str, Any] = {"dim": 16, "depth": 1, "num_heads": 2}


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, "num_sanity_val_steps": 0, **options},
    )


class Fixed(nn.Module):
    """Logits that depend on nothing but the token read."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(vocab_size, vocab_size, generator=generator))

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        return self.weight[batch.x]


@pytest.fixture
def data() -> SymbolPairs:
    module = SymbolPairs("sort", 3, min_length=1, max_length=3, num_samples=23, max_tokens=61)
    module.setup()
    return module


def test_metrics_are_sums_over_targets(data: SymbolPairs, tmp_path: Path) -> None:
    network = Fixed(data.vocab_size)
    task = SequenceToSequence(network)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    losses, right, exact = [], [], []
    for batch in data.test_dataloader():
        logits = network.weight.detach()[batch.x]
        losses.append(F.cross_entropy(logits, batch.y, reduction="none"))
        right.append(logits.argmax(-1) == batch.y)
        exact += [bool(row.all()) for row in right[-1].split(list(batch.lengths))]
    assert result["test/loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert result["test/accuracy"] == pytest.approx(float(torch.cat(right).float().mean()))
    assert result["test/exact_match"] == pytest.approx(sum(exact) / len(exact))


def test_labels_are_smoothed_in_training_only(data: SymbolPairs, tmp_path: Path) -> None:
    network = Fixed(data.vocab_size)
    task = SequenceToSequence(network, label_smoothing=0.3, lr=0.0)
    chief = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    chief.fit(task, data)
    batch = next(iter(data.train_dataloader()))
    logits = network.weight.detach()[batch.x]
    wanted = F.cross_entropy(logits, batch.y, label_smoothing=0.3)
    assert chief.callback_metrics["train/loss"] == pytest.approx(float(wanted), rel=1e-5)
    (result,) = trainer(tmp_path).validate(task, data, verbose=False)
    plain = torch.cat([F.cross_entropy(network.weight.detach()[b.x], b.y, reduction="none")
                       for b in data.val_dataloader()])  # fmt: skip
    assert result["val/loss"] == pytest.approx(float(plain.mean()), rel=1e-5)


class Watched(SequenceToSequence):
    """A task that keeps the gradient of its step."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.gradient = self.network.weight.grad.clone()


def test_accumulated_batches_weigh_by_their_tokens(data: SymbolPairs, tmp_path: Path) -> None:
    network = Fixed(data.vocab_size)
    before = network.weight.detach().clone().requires_grad_()
    task = Watched(network)
    chief = trainer(tmp_path, max_steps=1, accumulate_grad_batches=2, limit_val_batches=0)
    chief.fit(task, data)
    batches = [batch for _, batch in zip(range(2), data.train_dataloader(), strict=False)]
    assert len(batches[0].y) != len(batches[1].y)
    x, y = (torch.cat([getattr(batch, name) for batch in batches]) for name in "xy")
    F.cross_entropy(before[x], y).backward()
    torch.testing.assert_close(task.gradient, before.grad)


def test_an_encoder_decoder_learns_to_copy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = SymbolPairs("sort", 2, min_length=1, max_length=5, num_samples=40, max_tokens=200)
    network = models.encoder_decoder(4, dim=32, depth=1, num_heads=2)
    task = SequenceToSequence(network, lr=3e-3)
    trainer(tmp_path, max_epochs=30, limit_val_batches=0).fit(task, data)
    (result,) = trainer(tmp_path).validate(task, data.train_dataloader(), verbose=False)
    assert result["val/exact_match"] > 0.5


def test_bleu_of_generated_answers(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    lines = [f"{i} and {i + 1}\tI saw the {i + 1} after {i}" for i in range(20)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    data = TextPairs(str(tmp_path / "pairs.tsv"), vocabulary="characters", max_tokens=200)
    data.setup()
    network = models.encoder_decoder(data.vocab_size, **SIZES)
    task = SequenceToSequence(network, bleu=True)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    assert 0 <= result["test/bleu"] < 20

    def generate(batch: Any, **options: Any) -> list[list[int]]:
        rows = batch.source.split(list(batch.source_lengths))
        texts = [data.decode(row).split(" and ") for row in rows]
        return [
            data.encode(f"I saw the {second} after {first}").tolist() for first, second in texts
        ]

    network.generate = generate  # type: ignore[method-assign, assignment]
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    assert result["test/bleu"] == pytest.approx(100)


class Means(nn.Module):
    """The mean of each sample's one-hot tokens, with dropout."""

    def __init__(self, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, vocab_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.embedding.weight)

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        rows = self.dropout(self.embedding(batch.x)).split(list(batch.lengths))
        return torch.stack([row.mean(0) for row in rows])


def sentences() -> Data:
    x = torch.tensor([0, 0, 1, 2, 3, 3, 4])
    return Data(x=x, pos=torch.tensor([0, 1, 2, 0, 0, 1, 2]), lengths=(3, 1, 3))


def test_a_sentence_is_contrasted_with_itself_in_one_pass() -> None:
    views = both_views(sentences())
    assert views.lengths == (3, 1, 3, 3, 1, 3)
    assert torch.equal(views.x[:7], views.x[7:])
    assert torch.equal(views.pos[:7], views.pos[7:])
    task = SentenceContrast(Means(5, 0.0), temperature=0.5)
    total, right, count = task._contrast(sentences())
    vectors = F.normalize(torch.tensor([[2.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 2, 1]]))
    similar = vectors @ vectors.T / 0.5
    wanted = F.cross_entropy(similar, torch.arange(3), reduction="sum")
    torch.testing.assert_close(total.detach(), wanted)
    assert (int(right), int(count)) == (3, 3)


def test_dropout_makes_the_two_views() -> None:
    torch.manual_seed(0)
    task = SentenceContrast(Means(5, 0.5)).train()
    torch.manual_seed(1)
    first, second = F.normalize(task(both_views(sentences())), dim=-1).chunk(2)
    assert not torch.equal(first, second)


def test_pairs_are_contrasted_with_their_other_text() -> None:
    batch = Data(
        x=torch.tensor([9, 1, 2, 9, 3]),
        pos=torch.tensor([0, 1, 2, 0, 1]),
        lengths=(3, 2),
        source=torch.tensor([5, 6]),
        source_pos=torch.tensor([0, 0]),
        source_lengths=(1, 1),
    )
    views = both_views(batch)
    assert views.x.tolist() == [5, 6, 1, 2, 3]
    assert views.lengths == (1, 1, 2, 1)
    assert views.pos.tolist() == [0, 0, 0, 1, 0]


def checkpoint(folder: Path, network: nn.Module) -> str:
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": weights}, folder / "checkpoints" / "best.ckpt")
    return str(folder)


def test_pretrained_weights_but_for_the_head(tmp_path: Path) -> None:
    pretrained = models.bert(23, **SIZES)
    network = models.text_classifier(23, 3, **SIZES)
    head = network.head.linear.weight.clone()
    kept = load_pretrained(network, checkpoint(tmp_path, pretrained))
    assert kept == ["head.linear.bias", "head.linear.weight"]
    assert torch.equal(network.head.linear.weight, head)
    own, other = network.state_dict(), pretrained.state_dict()
    names = [name for name in own if not name.startswith("head.")]
    assert len(names) > 10
    assert all(torch.equal(own[name], other[name]) for name in names)


def test_other_networks_are_refused_in_one_line(tmp_path: Path) -> None:
    run = checkpoint(tmp_path, models.bert(23, **SIZES))
    deeper = models.text_classifier(23, 3, **{**SIZES, "depth": 2})
    with pytest.raises(ValueError, match=r"missing there: transformer.blocks.1.") as caught:
        load_pretrained(deeper, run)
    assert "\n" not in str(caught.value)
    wider = models.text_classifier(29, 3, **SIZES)
    with pytest.raises(ValueError, match=r"embedding.features.weight \(23x16 there, 29x16 here\)"):
        load_pretrained(wider, run)
    with pytest.raises(ValueError, match="missing here: embedding.types.weight"):
        load_pretrained(models.text_classifier(23, 3, num_token_types=0, **SIZES), run)
    with pytest.raises(FileNotFoundError, match="neither a checkpoint nor the folder of a run"):
        load_pretrained(wider, tmp_path / "none")
    (tmp_path / "no.ckpt").write_text("no")
    with pytest.raises(ValueError, match=r"no.ckpt, which is no readable checkpoint"):
        load_pretrained(wider, tmp_path / "no.ckpt")


def test_a_task_starts_from_pretrained_weights(tmp_path: Path) -> None:
    pretrained = models.bert(23, **SIZES)
    task = Classification(
        models.text_classifier(23, 3, **SIZES),
        num_classes=3,
        pretrained=checkpoint(tmp_path, pretrained),
    )
    task.setup("test")
    wanted = pretrained.embedding.features.weight
    assert not torch.equal(task.network.embedding.features.weight, wanted)
    task.setup("fit")
    assert torch.equal(task.network.embedding.features.weight, wanted)
