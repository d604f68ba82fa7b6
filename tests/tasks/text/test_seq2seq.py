"""Teacher forcing, label smoothing, exact match, BLEU; unknown options."""

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
from graphformer.tasks import Denoising, SequenceToSequence

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


def test_bleu_generates_no_more_tokens_than_there_are_positions(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    (tmp_path / "pairs.tsv").write_text("\n".join(f"a{i}\tb{i}{i + 1}" for i in range(20)))
    data = TextPairs(str(tmp_path / "pairs.tsv"), vocabulary="characters", max_tokens=200)
    data.setup()
    network = models.encoder_decoder(data.vocab_size, **{**SIZES, "max_length": 7})
    task = SequenceToSequence(network, bleu=True)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    assert "test/bleu" in result


def test_unknown_options_are_refused_by_name(data: SymbolPairs) -> None:
    for task in (SequenceToSequence, Denoising):
        with pytest.raises(TypeError, match="'label_smooth': did you mean 'label_smoothing'"):
            task(Fixed(data.vocab_size), label_smooth=0.1)
