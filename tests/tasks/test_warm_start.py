"""Tasks that start from the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphformer import models
from graphformer.tasks import Classification
from graphformer.tasks.warm_start import load_pretrained

SIZES: dict[str, Any] = {"dim": 16, "depth": 1, "num_heads": 2}


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
    with pytest.raises(ValueError, match=r"missing in checkpoint: transformer.blocks.1.") as caught:
        load_pretrained(deeper, run)
    assert "\n" not in str(caught.value)
    missing = [name for name in deeper.state_dict() if name.startswith("transformer.blocks.1.")]
    assert f"and {len(missing) - 4} others" in str(caught.value)
    assert sum(name in str(caught.value) for name in missing) == 4
    wider = models.text_classifier(29, 3, **SIZES)
    with pytest.raises(ValueError, match=r"weight \(23x16 in checkpoint, 29x16 in network\)"):
        load_pretrained(wider, run)
    with pytest.raises(ValueError, match="missing in network: embedding.types.weight"):
        load_pretrained(models.text_classifier(23, 3, num_token_types=0, **SIZES), run)
    with pytest.raises(FileNotFoundError, match="none', expected a checkpoint, the folder"):
        load_pretrained(wider, tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="^teacher: got"):
        load_pretrained(wider, tmp_path / "none", argument="teacher")
    (tmp_path / "no.ckpt").write_text("no")
    with pytest.raises(ValueError, match=r"no.ckpt, expected a readable checkpoint"):
        load_pretrained(wider, tmp_path / "no.ckpt")


def test_a_task_starts_from_pretrained_weights(tmp_path: Path) -> None:
    pretrained = models.bert(23, **SIZES)
    task = Classification(
        models.text_classifier(23, 3, **SIZES),
        num_classes=3,
        pretrained=checkpoint(tmp_path, pretrained),
    )
    task.setup("test")
    expected = pretrained.embedding.features.weight
    assert not torch.equal(task.network.embedding.features.weight, expected)
    task.setup("fit")
    assert torch.equal(task.network.embedding.features.weight, expected)


@pytest.mark.parametrize("length", [5, 11, 23])
def test_other_numbers_of_learned_positions(tmp_path: Path, length: int) -> None:
    pretrained = models.language_model(29, max_length=11, **SIZES)
    network = models.language_model(29, max_length=length, **SIZES)
    load_pretrained(network, checkpoint(tmp_path, pretrained))
    name = "embedding.positions.tables.0.weight"
    stored, own = pretrained.state_dict()[name], network.state_dict()[name]
    if length <= 11:
        assert torch.equal(own, stored[:length])
        return
    for row in range(length):
        place = row * 10 / 22
        low = min(int(place), 9)
        expected = torch.lerp(stored[low], stored[low + 1], place - low)
        torch.testing.assert_close(own[row], expected)
