"""Small training runs for tests of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from graphformer.cli import main

TEXT = "one two three four five six seven eight nine ten\n" * 40
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


def fit_language_model(*arguments: str) -> Path:
    """Train a language model on `text.txt` in the current folder; return the run's folder."""
    settings = {
        "trainer": {"max_steps": 3, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {
            "class_path": "graphformer.tasks.LanguageModeling",
            "init_args": {
                "network": {
                    "class_path": "graphformer.models.language_model",
                    "init_args": {"dim": 16, "depth": 1, "num_heads": 2, "max_length": 96},
                },
                "adjacency": {"class_path": "graphformer.patterns.Causal"},
            },
        },
        "data": {
            "class_path": "graphformer.data.TextFile",
            "init_args": {"path": "text.txt", "block_size": 17, "batch_size": 3},
        },
    }
    Path("lm.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "-c", "lm.yaml", *arguments]) == 0
    return max(Path("runs/lm").iterdir())
