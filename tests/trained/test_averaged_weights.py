"""Exponential moving averages of weights: what is stored in checkpoints and loaded."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor

import graphformer as gf
from graphformer import data, models, patterns, tasks

DECAY, STEPS = 0.7, 5


class Weights(Callback):
    """Records the weights after each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})


def test_checkpoints_have_the_averages(tmp_path: Path) -> None:
    pl.seed_everything(0)
    rows = [
        f"{word} {i}\t{label}" for i in range(20) for word, label in (("good", "a"), ("bad", "b"))
    ]
    (tmp_path / "texts.tsv").write_text("\n".join(["text\tlabel", *rows]))
    texts = data.LabelledText(str(tmp_path / "texts.tsv"), vocabulary="bytes", max_tokens=31)
    texts.setup()
    network = models.text_classifier(texts.vocab_size, 2, dim=8, depth=1, num_heads=2)
    task = tasks.Classification(network, patterns.Complete(), num_classes=2, lr=1e-2)
    weights = Weights()
    callbacks = [
        weights,
        EMAWeightAveraging(decay=DECAY),
        ModelCheckpoint(tmp_path, filename="at_{step}", every_n_train_steps=3, save_top_k=-1),
    ]
    trainer = pl.Trainer(
        max_steps=STEPS, accelerator="cpu", logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, texts)
    averages = [weights.seen[0]]
    for step in weights.seen[1:]:
        averages.append(
            {name: DECAY * averages[-1][name] + (1 - DECAY) * value for name, value in step.items()}
        )
    stored = torch.load(tmp_path / "at_step=3.ckpt", weights_only=True)["state_dict"]
    for name, value in averages[2].items():
        torch.testing.assert_close(stored[name], value)
        assert not torch.equal(value, weights.seen[2][name])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = gf.load(tmp_path / "last.ckpt")
    parameters = dict(loaded.task.named_parameters())
    for name, value in averages[-1].items():
        torch.testing.assert_close(parameters[name].detach(), value)
