"""Preference optimisation on two processes: cached references are those of all samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.processes import run_ranks
from helpers.tasks import trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from graphformer import models
from graphformer.data import PreferenceFile
from graphformer.data.loader import process_ranks
from graphformer.tasks import DirectPreference

NUM_PAIRS = 7


def fit(folder: Path, cache: str | None) -> Tensor:
    """The weights after three epochs, whose samples change places between ranks."""
    torch.manual_seed(3)
    network = models.language_model(259, dim=8, depth=1, num_heads=2, max_length=53)
    task = DirectPreference(network, lr=1e-2, reference_cache=cache)
    size = process_ranks()[1]
    data = PreferenceFile(str(folder / "pairs.jsonl"), max_tokens=97, val_fraction=0.3)
    options = {"strategy": "ddp", "devices": size} if size > 1 else {}
    trainer(max_epochs=3, **options).fit(task, data)
    return parameters_to_vector(task.parameters()).detach()


def fit_both(folder: Path) -> list[Tensor]:
    return [fit(folder, cache) for cache in (None, str(folder / "cache"))]


@pytest.mark.slow
def test_a_cache_of_two_processes_has_the_samples_of_both(tmp_path: Path) -> None:
    records = [
        {"prompt": "q" * number, "chosen": "yes", "rejected": "no" * number}
        for number in range(1, NUM_PAIRS + 1)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)))
    for copied, cached in run_ranks(fit_both, 2, tmp_path):
        torch.testing.assert_close(cached, copied)
    (file,) = (tmp_path / "cache").glob("*.pt")
    assert len(torch.load(file, weights_only=True)) == 2 * NUM_PAIRS
