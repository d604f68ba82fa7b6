"""Classes by words: logits and loss by hand, soft labels by hand, a pattern that is learned."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from helpers.tasks import trainer
from torch.nn import functional as F

from graphformer import models
from graphformer.data import ClozeText
from graphformer.patterns import Causal
from graphformer.tasks import Classification, ClozeClassification
from graphformer.tasks.text.cloze import soft_labels


def cloze_data(tmp_path: Path) -> ClozeText:
    texts = [("good", "p"), ("bad", "n"), ("so good", "p"), ("so bad", "n"), ("goood", "p")]
    records = [{"text": t, "label": y} for t, y in texts]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    data = ClozeText(
        str(file),
        str(file),
        str(file),
        template="{text}: {mask}",
        words={"n": "-", "p": "+"},
        causal=True,
        vocabulary="bytes",
        max_tokens=32,
    )
    return data


def network() -> models.Model:
    torch.manual_seed(0)
    return models.language_model(vocab_size=256, dim=16, depth=1, num_heads=2, max_length=32)


def test_logits_are_those_of_the_words_at_the_gap(tmp_path: Path) -> None:
    data = cloze_data(tmp_path)
    with pytest.raises(ValueError, match="'-', which is 2 tokens after ':'"):
        data.setup()  # with bytes the blank is a token too
    data.template = "{text}:{mask}"
    data.setup()
    task = ClozeClassification(network(), Causal(), num_classes=2)
    batch = data.pack(["good", "so bad"])
    full = task.network(batch, Causal()(batch))
    expected = full[torch.tensor([4, 11])][:, [ord("-"), ord("+")]]
    torch.testing.assert_close(task(batch), expected)
    del batch.answer_ids
    with pytest.raises(ValueError, match="use the data ClozeText"):
        task(batch)


def test_a_language_model_learns_the_words(tmp_path: Path) -> None:
    data = cloze_data(tmp_path)
    data.template = "{text}:{mask}"
    task = ClozeClassification(network(), Causal(), num_classes=2, lr=1e-2)
    fit = trainer(max_epochs=20)
    fit.fit(task, data)
    assert float(fit.callback_metrics["val/accuracy"]) == 1


def test_soft_targets_replace_the_classes_in_training(tmp_path: Path) -> None:
    data = cloze_data(tmp_path)
    data.template = "{text}:{mask}"
    data.setup()
    weights = [1.0, 3.0]
    task = Classification(network(), Causal(), num_classes=2, class_weights=weights)
    logits = torch.randn(2, 2, generator=torch.Generator().manual_seed(1))
    p = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    total, count = task._loss(logits, p.argmax(1), p)
    log_q = F.log_softmax(logits, 1)
    expected = -(p * torch.tensor(weights) * log_q).sum()
    torch.testing.assert_close(total, expected)
    assert float(count) == pytest.approx(0.25 + 0.75 * 3 + 1)


def test_soft_labels_by_hand() -> None:
    one, two = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    even = soft_labels([one, two])
    torch.testing.assert_close(even[0, 1], torch.tensor(0.5).double().sigmoid())
    uneven = soft_labels([one, two], [3, 1], temperature=1)
    torch.testing.assert_close(uneven[0, 1], torch.tensor(-0.5).double().sigmoid())
    for weights in ([1.0], [0.0, 0.0], [2.0, -1.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="weights: got"):
            soft_labels([one, two], weights)
    with pytest.raises(ValueError, match=r"logits: got .*, expected one shape"):
        soft_labels([one, two.repeat(3, 1)])
    with pytest.raises(ValueError, match="temperature: got 0"):
        soft_labels([one, two], temperature=0)
    with pytest.raises(ValueError, match="logits of 0 patterns"):
        soft_labels([])
