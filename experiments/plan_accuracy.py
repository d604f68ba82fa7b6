"""Compare the peak memory that `graphformer plan` predicts with that of runs on this CPU.

`python experiments/plan_accuracy.py [NAME ...]` trains each recipe for three steps in a process of
its own and prints a table. What is measured is the peak of the resident set (VmHWM of Linux) above
that after imports, the data and a small warm-up.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from graphformer.cli import console
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import read_command
from graphformer.cli.config.sizes import fill_sizes, set_up
from graphformer.cli.planned import Planned
from graphformer.planning import HEAP_OVERHEAD, trace_step

ROOT = Path(__file__).resolve().parents[1]
TEXT = ["-c", "experiments/char_lm.yaml", "-c", "datasets/tiny_shakespeare.yaml"]
IMAGES = ["-c", "experiments/vit.yaml", "-c", "datasets/fashion_mnist.yaml"]
SMALL = (
    "--model.network.dim 256 --model.network.depth 6 --model.network.num_heads 8 "
    "--model.network.max_length 1024 "
)
LARGE = (
    "--model.network.dim 512 --model.network.depth 12 --model.network.num_heads 8 "
    "--model.network.max_length 512 --model.network.activation_checkpointing true "
)
WINDOW = "--adjacency Window --adjacency.radius 16 --adjacency.causal true "
RECIPES: dict[str, list[str]] = {
    "text, causal": [*TEXT, *(SMALL + "--data.block_size 256 --data.batch_size 16").split()],
    "text, causal, checkpointing": [
        *TEXT, *(LARGE + "--data.block_size 256 --data.batch_size 8").split()
    ],
    "text, window": [
        *TEXT, *(SMALL + WINDOW + "--data.block_size 1024 --data.batch_size 4").split()
    ],
    "text, window, checkpointing": [
        *TEXT, *(LARGE + WINDOW + "--data.block_size 512 --data.batch_size 4").split()
    ],
    "images, complete": [
        *IMAGES,
        *["--model.network.dim", "128", "--model.network.depth", "6", "--data.batch_size", "256"],
    ],
}  # fmt: skip


class Measured(CLI):
    """`fit` for three steps that records the peak of the resident set.

    Attributes:
        added: bytes above the baseline.
    """

    added: int

    def instantiate_classes(self) -> None:
        """Read the data and take the baseline, before the network is built."""
        config = self.config.fit
        data = fill_sizes(config.model, config.data) or set_up(config.data)
        next(iter(data.train_dataloader()))  # type: ignore[attr-defined]
        _warm_up()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        self.baseline = _status("VmRSS")
        super().instantiate_classes()
        self.datamodule = data

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build a trainer of three steps that writes nothing."""
        settings = self._get(self.config_init, "trainer")
        quiet = {
            "enable_progress_bar": False, "enable_checkpointing": False, "logger": False,
            "max_steps": 3, "limit_val_batches": 0, "num_sanity_val_steps": 0, "callbacks": [],
            "accelerator": "cpu", "enable_model_summary": False, "val_check_interval": 1.0,
            "check_val_every_n_epoch": 1,
        }  # fmt: skip
        return self._instantiate_trainer({**settings, **kwargs, **quiet}, [])

    def fit(self, model: Any, datamodule: Any) -> None:
        """Train, and note the peak."""
        self.trainer.fit(model, datamodule=datamodule)
        self.added = _status("VmHWM") - self.baseline


def _warm_up() -> None:
    """Load what the first step loads: compiled kernels and libraries."""
    import graphformer as gf

    for adjacency in (gf.causal(7), gf.window(101, 1)):
        model = gf.Transformer(dim=8, depth=1, num_heads=2, dropout=0.1)
        model(torch.randn(adjacency.shape[0], 8), adjacency).sum().backward()
        torch.optim.AdamW(model.parameters(), fused=True).step()


def _status(field: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(words: list[str]) -> list[int]:
    """Return the bytes that three steps add, in this process."""
    with console.quiet():
        return [Measured(read_command(["fit", *words])).added]


def predict(words: list[str]) -> list[int]:
    """Return the predicted bytes with and without what the allocator keeps."""
    with console.quiet():
        plan = Planned(read_command(["fit", *words]))
    precision = str(plan.settings.precision or "32-true")
    accumulate = int(plan.settings.accumulate_grad_batches)
    step = trace_step(
        plan.model, plan.batch, plan.fake,
        precision=precision, accumulate=accumulate, heap_overhead=HEAP_OVERHEAD,
    )  # fmt: skip
    peak = step.timeline.at_peak()
    return [sum(peak.values()), sum(peak.values()) - peak["allocator"]]


def _in_process(action: str, words: list[str], **variables: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, __file__, action, json.dumps(words)],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return [int(word) for word in done.stdout.splitlines()[-1].split()]


def main(names: list[str]) -> None:
    """Print the table of the recipes that are named, or of all.

    Each is also measured with a fixed threshold of `malloc`, under which it keeps next to nothing.
    """
    from rich.console import Console
    from rich.table import Table

    titles = "predicted", "measured", "error", "tensors", "measured, fixed", "error"
    table = Table("recipe, MiB", *titles)
    for name in names or RECIPES:
        predicted, tensors = _in_process("predict", RECIPES[name])
        (measured,) = _in_process("measure", RECIPES[name])
        (fixed,) = _in_process("measure", RECIPES[name], MALLOC_MMAP_THRESHOLD_="1048576")
        row = [
            f"{predicted >> 20:,}", f"{measured >> 20:,}", f"{predicted / measured - 1:+.1%}",
            f"{tensors >> 20:,}", f"{fixed >> 20:,}", f"{tensors / fixed - 1:+.1%}",
        ]  # fmt: skip
        print(name, *row, flush=True)
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] in (["measure"], ["predict"]):
        print(*globals()[sys.argv[1]](json.loads(sys.argv[2])))
    else:
        main(sys.argv[1:])
