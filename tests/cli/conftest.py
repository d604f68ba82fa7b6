"""One small training run that the tests of the command line share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from graphformer.cli import main

EXPERIMENT = """\
# Digits in patches of 4 x 4, a network of 1 block.
model:
  class_path: Classification
  init_args:
    network:
      class_path: graphformer.models.vit
      init_args: {dim: 12, depth: 1, num_heads: 2, dropout: 0.1}
    adjacency: Complete
    lr: 1.0e-2
    schedule: cosine
    warmup_steps: 2
data:
  class_path: Digits
  init_args: {patch_size: 4, batch_size: 64}
trainer:
  accelerator: cpu
  max_epochs: 2
  limit_train_batches: 7
  enable_model_summary: false
  enable_progress_bar: false
"""


@dataclass(frozen=True)
class Run:
    home: Path
    folder: Path

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower with more, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of two epochs, in a folder that no test may change."""
    home = tmp_path_factory.mktemp("cli")
    (home / "tiny.yaml").write_text(EXPERIMENT)
    previous = Path.cwd()
    os.chdir(home)
    try:
        assert main(["fit", "-c", "tiny.yaml"]) == 0
    finally:
        os.chdir(previous)
    (folder,) = (home / "runs" / "tiny").iterdir()
    return Run(home, folder)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the experiment in it, as the current one."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path
