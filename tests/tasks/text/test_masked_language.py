"""Choice of masked tokens, reproducibility, losses against sums by hand."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer import models
from graphformer.cli.callbacks import ExactResume
from graphformer.data import TextFile
from graphformer.patterns import Complete
from graphformer.tasks import MaskedLanguageModeling
from graphformer.tasks.seeding import sample_generators
from graphformer.tasks.text.masked_language import Masking, number_words

VOCABULARY, MASK, SPECIAL = 97, 96, (90, 91, 96)


def text(nodes: int = 20_011, seed: int = 0) -> Data:
    x = torch.randint(92, (nodes,), generator=torch.Generator().manual_seed(seed))
    return Data(x=x, lengths=(nodes - 17, 17), pos=torch.arange(nodes))


def rng(seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, sample)) for sample in range(2)]


def test_rates_are_those_of_bert() -> None:
    batch = text()
    masked, y = Masking(VOCABULARY, MASK, SPECIAL)(batch, rng())
    chosen = y != -100
    plain = ~torch.isin(batch.x, torch.tensor(SPECIAL))
    assert not chosen[~plain].any()
    assert torch.equal(y[chosen], batch.x[chosen])
    assert torch.equal(masked.x[~chosen], batch.x[~chosen])
    count = int(chosen.sum())
    assert count / int(plain.sum()) == pytest.approx(0.15, abs=0.01)
    hidden = masked.x[chosen]
    assert float((hidden == MASK).float().mean()) == pytest.approx(0.8, abs=0.03)
    same = float((hidden == batch.x[chosen]).float().mean())
    assert same == pytest.approx(0.1 + 0.1 / 90, abs=0.03)
    assert not torch.isin(hidden[hidden != MASK], torch.tensor(SPECIAL)).any()
    assert batch.x is not masked.x
    assert tuple(masked.lengths) == batch.lengths == (19_994, 17)


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_the_rate_is_the_one_asked_for(rate: float) -> None:
    _, y = Masking(VOCABULARY, MASK, rate=rate)(text(), rng())
    assert float((y != -100).float().mean()) == pytest.approx(rate, abs=0.02)
    with pytest.raises(ValueError, match="mask_rate: got 1.5"):
        Masking(VOCABULARY, MASK, rate=1.5)


def test_words_are_hidden_as_wholes() -> None:
    starts = np.arange(VOCABULARY) % 3 == 0
    batch = text()
    _, y = Masking(VOCABULARY, MASK, SPECIAL, starts)(batch, rng())
    word = number_words(starts[batch.x.numpy()], batch.lengths)
    assert word[19_993] != word[19_994]  # no word goes on in the next sample
    plain = ~np.isin(batch.x.numpy(), SPECIAL)
    chosen = (y != -100).numpy()
    for number in range(word.max() + 1):
        inside = chosen[(word == number) & plain]
        assert inside.all() or not inside.any()
    assert chosen[plain].mean() == pytest.approx(0.15, abs=0.02)


def test_static_masks_belong_to_the_sample() -> None:
    masking = Masking(VOCABULARY, MASK, static=True)
    first, second = (masking(text(101), rng(seed))[1] for seed in (0, 1))
    assert torch.equal(first, second)
    batch = text(101)
    swapped = Data(x=torch.cat([batch.x[84:], batch.x[:84]]), lengths=(17, 84))
    moved = masking(swapped, rng(2))[1]
    assert torch.equal(moved[17:], first[:84])
    dynamic = Masking(VOCABULARY, MASK)
    assert not torch.equal(dynamic(text(101), rng(0))[1], dynamic(text(101), rng(1))[1])


class Recording(nn.Module):
    """A network that keeps the tokens that it was given."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, vocab_size))
        self.seen: list[Tensor] = []

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        self.seen.append(batch.x.clone())
        return self.weight[batch.x]


class Stopping(MaskedLanguageModeling):
    """A task that is killed after some steps, with a checkpoint written."""

    stop_at: int | None = None

    def on_train_batch_end(self, *args: Any) -> None:
        if self.global_step == self.stop_at:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "stopped.ckpt")
            raise KeyboardInterrupt


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


def test_masks_are_dynamic_in_training_fixed_in_validation_and_exact_on_resume(
    data: TextFile, tmp_path: Path
) -> None:
    def run(folder: str, stop_at: int | None = None, **options: Any) -> list[Tensor]:
        torch.manual_seed(1)
        network = Recording(data.vocab_size)
        task = Stopping(network, Complete(), seed=3)
        task.stop_at = stop_at
        ckpt_path = options.pop("ckpt_path", None)
        chief = trainer(tmp_path / folder, **{"limit_val_batches": 0, **options})
        with pytest.raises(SystemExit) if stop_at else nullcontext():
            chief.fit(task, data, ckpt_path=ckpt_path)
        return network.seen

    whole, again = run("whole"), run("again")
    assert len(whole) == 10
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert not torch.equal(whole[0] == data.tokenizer.mask_id, whole[5] == data.tokenizer.mask_id)

    first = run("first", stop_at=7)
    second = run("second", ckpt_path=str(tmp_path / "first" / "stopped.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(first + second, whole, strict=True))

    seen = run("val", limit_val_batches=2, limit_train_batches=1)
    assert torch.equal(seen[1], seen[4])
    assert torch.equal(seen[2], seen[5])


def test_the_loss_is_a_mean_over_hidden_tokens(data: TextFile, tmp_path: Path) -> None:
    network = Recording(data.vocab_size)
    task = MaskedLanguageModeling(network, Complete(), seed=3)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    total, right, count = 0.0, 0, 0
    for number, batch in enumerate(data.test_dataloader()):
        masked, y = task.masking(batch, sample_generators(batch.x, batch.lengths, 3, 0))
        assert torch.equal(masked.x, network.seen[number])
        logits = network.weight.detach()[masked.x]
        total += float(F.cross_entropy(logits, y, reduction="sum"))
        right, count = right + int((logits.argmax(-1) == y).sum()), count + int((y >= 0).sum())
    assert result["test/loss"] == pytest.approx(total / count, rel=1e-5)
    assert result["test/accuracy"] == pytest.approx(right / count)
    assert result["test/perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)


def test_a_models_head_sees_hidden_tokens_only(data: TextFile, tmp_path: Path) -> None:
    network = models.bert(data.vocab_size, dim=16, depth=1, num_heads=2).eval()
    task = MaskedLanguageModeling(network)
    trainer(tmp_path, fast_dev_run=1).test(task, data, verbose=False)
    batch = next(iter(data.test_dataloader()))
    masked, y = task.masking(batch, sample_generators(batch.x, batch.lengths, 0))
    rows = []
    network.head.register_forward_hook(lambda head, inputs, out: rows.append(len(out)))
    logits, labels = task._predictions(masked, y)
    torch.testing.assert_close(logits, task(masked)[y != -100])
    assert rows == [int((y != -100).sum()), len(y)]
    assert torch.equal(labels, y[y != -100])


def test_data_without_a_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc" * 100)
    plain = TextFile(str(tmp_path / "text.txt"), 7, 3)
    task = MaskedLanguageModeling(models.bert(3, dim=8, depth=1, num_heads=1))
    with pytest.raises(ValueError, match="no token <mask>; set special_tokens"):
        trainer(tmp_path).validate(task, plain, verbose=False)
