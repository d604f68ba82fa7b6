"""`graphformer scaling run`: language models of several sizes, each trained on several budgets."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
from torch import nn

from graphformer.cli import console
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import Command, read_command
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.cli.many_runs.job import RESULT, Job
from graphformer.cli.many_runs.settings import inlined, runs_root, settings_key
from graphformer.cli.many_runs.training import train
from graphformer.cli.run_dir import write_atomically
from graphformer.models import Model
from graphformer.tasks import Task

_TRAINING = 3  # FLOPs of forward and backward, relative to forward


@dataclass(frozen=True)
class Size:
    """What one size of the model costs.

    Attributes:
        parameters: of the blocks, without embedding and head.
        matmul_parameters: weights of all linear maps, the head included.
        attention_flops: of one training step, by the edges of its first batch.
        tokens: of one training step.
        steps: of one epoch.
    """

    parameters: int
    matmul_parameters: int
    attention_flops: float
    tokens: int
    steps: int

    def flops(self, steps: int) -> float:
        """Return 6 x matmul parameters x tokens, and attention by actual edges."""
        return steps * (6.0 * self.matmul_parameters * self.tokens + self.attention_flops)


@dataclass(frozen=True)
class Row:
    """One line of the table of runs."""

    depth: int
    tokens_per_parameter: float
    N: int
    D: int
    C: float
    loss: float
    run: str


def run_sizes(
    words: list[str],
    depths: Sequence[int],
    ratios: Sequence[float],
    *,
    width: int,
    out: Path,
) -> int:
    """Train all sizes on all budgets, and write a table of the finished runs after each.

    The width is `width` x depth. The schedule of a run ends with its own last step, and budgets of
    more than one epoch are left out. Finished runs are not repeated, nor are those whose folder is
    on another machine but which are in the table; its other rows stay.

    Args:
        words: options of `fit`.
        depths: numbers of blocks.
        ratios: tokens per parameter of the blocks.
        width: channels per block of depth.
        out: the CSV file.

    Raises:
        UsageError: when a setting is wrong, the table is of other settings, or no budget fits into
            an epoch.
    """
    command = read_command(["fit", *words])
    settings = settings_key([*inlined(command.arguments), width])
    folder = runs_root(words) / f"{command.experiment or 'scaling'}-{settings}"
    earlier = _read(out, folder.name)
    rows = dict(earlier)
    for depth in depths:
        arguments = [*command.arguments, *_sized(depth, width)]
        size = _measure(arguments, folder / f"depth{depth}")
        for ratio in ratios:
            steps = max(1, round(ratio * size.parameters / size.tokens))
            run = f"depth{depth}-ratio{ratio:g}"
            if steps > size.steps:
                print(f"{run}: left out, {steps} steps are more than one epoch of {size.steps}")
                continue
            key = depth, ratio
            if key in earlier and not (folder / run).exists():
                print(f"{run}: loss {earlier[key].loss:.4f}, from {out}")
                continue
            loss = _train(Job([*arguments, *_horizon(steps)], None, None, folder / run))
            tokens, flops = steps * size.tokens, size.flops(steps)
            rows[key] = Row(depth, ratio, size.parameters, tokens, flops, loss, str(folder / run))
            print(f"{run}: N {size.parameters:,}, D {tokens:,}, C {flops:.3g}, loss {loss:.4f}")
            _write(out, [rows[key] for key in sorted(rows)])
    if not rows:
        raise UsageError("--ratios: got budgets of more than one epoch only; use a longer text")
    print(f"wrote {len(rows)} runs to {out}; next: graphformer scaling fit {out}")
    return 0


def _sized(depth: int, width: int) -> list[str]:
    network = "--model.network"
    return [f"{network}.depth", str(depth), f"{network}.dim", str(depth * width)]


def _horizon(steps: int) -> list[str]:
    """Return the settings of a run's length: its schedule ends with it, and validation is last."""
    lengths = {"max_steps": steps, "max_epochs": -1, "val_check_interval": steps}
    options = [word for name, value in lengths.items() for word in (f"--trainer.{name}", value)]
    return [*map(str, options), "--trainer.check_val_every_n_epoch", "null"]


def _train(job: Job) -> float:
    """Return the validation loss of a run, which is trained if it is not finished."""
    file = job.folder / RESULT
    if file.is_file():
        result = json.loads(file.read_text(encoding="utf-8"))
    else:
        shutil.rmtree(job.folder, ignore_errors=True)  # files of an interrupted run
        result = train(job, optuna.trial.FixedTrial({}), "val/loss")
    return float(result["best"]["val/loss"])


def _measure(arguments: list[str], folder: Path) -> Size:
    """Return the size of the model that settings describe."""
    with console.quiet(), plain_errors():
        return _Measurement(Command("fit", arguments, None, None), folder=folder).size


class _Measurement(CLI):
    """`fit` that counts instead of training.

    Attributes:
        size: of the model.
    """

    size: Size

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Count parameters, and the edges and tokens of the first batch."""
        network = model.network
        if not isinstance(network, Model):
            raise UsageError(f"model: got {type(network).__name__}, expected a language model")
        loader: Any = datamodule.train_dataloader()
        batch = next(iter(loader))
        adjacency = model.adjacency(batch)
        blocks = network.transformer
        width = sum(_attention_width(block) for block in blocks.blocks)
        self.size = Size(
            parameters=sum(each.numel() for each in blocks.parameters()),
            matmul_parameters=_matmul_parameters(network),
            attention_flops=_TRAINING * 4.0 * adjacency.num_edges * width,
            tokens=int(batch.num_nodes),
            steps=len(loader),
        )


def _attention_width(block: nn.Module) -> int:
    """Return heads x head width: an edge costs 2 FLOPs a channel for the logit, 2 for the sum."""
    out: Any = block.get_submodule("attention.out")
    return int(out.in_features)


def _matmul_parameters(network: Model) -> int:
    """Return the number of weights of linear maps; the head counts also if tied."""
    linear = [each for each in network.modules() if isinstance(each, nn.Linear)]
    return sum(each.weight.numel() for each in linear)


def _read(path: Path, folder: str) -> dict[tuple[int, float], Row]:
    """Return the rows of a table by depth and tokens per parameter, none if there is no table.

    Raises:
        UsageError: when the table has other columns, or runs of another folder than `folder`, which
            is named by the settings.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        lines, names = list(table), table.fieldnames
    if names != [field.name for field in fields(Row)]:
        raise UsageError(
            f"--out: {path} has the columns {names}, expected a table of `scaling run`; choose "
            "another file"
        )
    others = {Path(line["run"]).parent.name for line in lines} - {folder}
    if others:
        raise UsageError(
            f"--out: {path} has runs of other settings, of the folder {sorted(others)[0]}, "
            f"expected those of {folder}; choose another file"
        )
    rows = [
        Row(
            depth=int(line["depth"]),
            tokens_per_parameter=float(line["tokens_per_parameter"]),
            N=int(line["N"]),
            D=int(line["D"]),
            C=float(line["C"]),
            loss=float(line["loss"]),
            run=line["run"],
        )
        for line in lines
    ]
    return {(row.depth, row.tokens_per_parameter): row for row in rows}


def _write(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_atomically(path, text.getvalue())
