"""Language modelling: losses by hand, bits per character and byte, load balancing, options."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import TextFile, TextRecords
from graphformer.nn import balance_loss
from graphformer.tasks import LanguageModeling
from graphformer.tasks.text.language import balanced


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


class Bigram(nn.Module):
    """Logits that depend on the token of the node only."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(vocab_size, vocab_size, generator=generator))

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        return self.weight[batch.x]


def losses_of(network: Bigram, batches: Any) -> Tensor:
    """The loss of every label, [labels]."""
    table = network.weight.detach()
    return torch.cat([F.cross_entropy(table[b.x], b.y, reduction="none")[b.y != -100]
                      for b in batches])  # fmt: skip


def make_records(folder: Path, **options: Any) -> TextRecords:
    texts = [f"réc{i} " + "ab" * (i % 7) for i in range(60)]
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = TextRecords(str(path), block_size=31, val_fraction=0.5, **options)
    data.setup()
    return data


@pytest.mark.parametrize("vocabulary", ["bytes", "characters", "bpe"])
def test_bits_are_over_the_text_that_is_predicted(tmp_path: Path, vocabulary: str) -> None:
    data = make_records(tmp_path, vocabulary=vocabulary, vocabulary_size=280)
    network = Bigram(data.vocab_size)
    (result,) = trainer(tmp_path).validate(LanguageModeling(network), data, verbose=False)
    losses = losses_of(network, data.val_dataloader())
    tokenizer = data.need_tokenizer()
    stream = data.stream("val")
    rows = stream.tokens.astype("int64").tolist()
    starts = [*stream.starts.tolist(), len(rows)]
    documents = [rows[a:b] for a, b in itertools.pairwise(starts)]
    assert len(losses) == len(rows) - len(documents)  # the first token of each has no label
    # What follows the first token of a document is predicted; <eos> is, and has no text.
    texts = [tokenizer.decode(document[1:]) for document in documents]
    nats = float(losses.double().sum())
    characters, size = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
    assert result["val/bits_per_character"] == pytest.approx(nats / math.log(2) / characters)
    assert result["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / size)
    assert result["val/loss"] == pytest.approx(nats / len(losses), rel=1e-5)
    assert result["val/perplexity"] == pytest.approx(math.exp(nats / len(losses)), rel=1e-5)


def test_a_plain_text_has_as_many_bits_per_character_as_per_token(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(chr(97 + i * i % 23) for i in range(1009)))
    data = TextFile(str(tmp_path / "a.txt"), 17, 3)
    data.setup()
    assert data.text_density("val") == (1.0, 1.0)
    task = LanguageModeling(Bigram(data.vocab_size), characters_per_token=2.0)
    (result,) = trainer(tmp_path).test(task, data, verbose=False)
    loss = result["test/loss"] / math.log(2)
    assert result["test/bits_per_character"] == pytest.approx(loss / 2, rel=1e-5)
    assert result["test/bits_per_byte"] == pytest.approx(loss, rel=1e-5)


def test_data_without_lengths_of_tokens_has_no_bits_per_byte(tmp_path: Path) -> None:
    batch = Data(x=torch.arange(5), y=torch.tensor([1, 2, 3, -100, 0]), lengths=(5,))
    task = LanguageModeling(Bigram(5))
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    (result,) = trainer(tmp_path).validate(task, loader, verbose=False)
    assert "val/bits_per_byte" not in result
    assert result["val/bits_per_character"] == pytest.approx(result["val/loss"] / math.log(2))


def test_the_load_balancing_loss_is_added_for_each_label() -> None:
    torch.manual_seed(0)
    network = models.language_model(13, dim=8, depth=2, num_heads=2, num_experts=3)
    total, count = torch.tensor(7.0), torch.tensor(5)
    assert torch.equal(balanced(total, count, network, 0.0), total)
    assert torch.equal(balanced(total, count, Bigram(3), 0.5), total)
    batch = Data(x=torch.arange(13), pos=torch.arange(13), lengths=(13,))
    task = LanguageModeling(network, balance=0.5).train()
    task(batch)
    expected = total + 0.5 * balance_loss(network) * count
    torch.testing.assert_close(balanced(total, count, network, 0.5), expected)


def test_unknown_options_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="LanguageModeling.*'warmup'.*did you mean 'warmup_steps'"):
        LanguageModeling(Bigram(3), warmup=3)  # type: ignore[call-arg]
