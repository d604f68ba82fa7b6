"""The small training run of the command line's tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
