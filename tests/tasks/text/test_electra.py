"""Detection of replaced tokens: sampling, losses, gradients."""

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
from graphformer.cli.callbacks import ExactResume
from graphformer.data import TextFile
from graphformer.tasks import ReplacedTokenDetection


class Recording(nn.Module):
    """A network that keeps the tokens that it was given."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, vocab_size))
        self.seen: list[Tensor] = []

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        self.seen.append(batch.x.clone())
        return self.weight[batch.x]


@pytest.fixture
def data(tmp_path: Path) -> TextFile:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + i * i % 23) for i in range(1009)), encoding="utf-8")
    module = TextFile(str(path), 31, 3, special_tokens=True, steps_per_epoch=5)
    module.setup()
    return module


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ExactResume()],  # as the command has it
        **{"max_epochs": 2, "num_sanity_val_steps": 0, **options},
    )


def test_replaced_tokens_are_those_that_differ(data: TextFile, tmp_path: Path) -> None:
    class Detector(Recording):
        def forward(self, batch: Data, adjacency: Any) -> Tensor:
            return super().forward(batch, adjacency)[:, :1]

    network, generator = Detector(data.vocab_size), Recording(data.vocab_size)
    task = ReplacedTokenDetection(network, generator, seed=3, weight=7.0)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    total, right, rows, replaced_count = 0.0, 0, 0, 0
    for number, batch in enumerate(data.test_dataloader()):
        filled = network.seen[number]
        masked = generator.seen[number]
        assert ((filled == batch.x) | (masked != batch.x) | (filled != masked)).all()
        replaced = (filled != batch.x).float()
        logits = network.weight.detach()[filled][:, 0]
        total += float(F.binary_cross_entropy_with_logits(logits, replaced, reduction="sum"))
        right += int(((logits > 0) == (replaced > 0)).sum())
        rows, replaced_count = rows + len(filled), replaced_count + int(replaced.sum())
    assert 0 < replaced_count < 0.2 * rows
    assert result["test/loss"] == pytest.approx(total / rows, rel=1e-5)
    assert result["test/accuracy"] == pytest.approx(right / rows)


def test_both_networks_of_replaced_token_detection_learn(data: TextFile, tmp_path: Path) -> None:
    kinds = {"dim": 16, "depth": 1, "num_heads": 2}
    task = ReplacedTokenDetection(
        models.token_tagger(data.vocab_size, 1, **kinds), models.bert(data.vocab_size, **kinds)
    )
    before = [p.clone() for p in task.parameters()]
    trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(task, data)
    changed = [not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True)]
    assert sum(changed) > 0.8 * len(changed)
    assert any(name.startswith("generator.") for name in dict(task.named_parameters()))
