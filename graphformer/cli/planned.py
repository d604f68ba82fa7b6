"""`fit` of which the network is built without memory, and the plan that is made with it."""

from __future__ import annotations

import argparse
import inspect
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from graphformer.batch_type import BatchLike
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import Command, read_command
from graphformer.cli.config.parser import import_object
from graphformer.cli.config.pretrained import fill_pretrained
from graphformer.cli.config.sizes import build, fill_sizes, set_up
from graphformer.cli.errors import UsageError, argument_errors
from graphformer.data.loader import BatchLoader
from graphformer.nn import Transformer
from graphformer.options import suggestion
from graphformer.patterns import lengths
from graphformer.planning import (
    HEAP_OVERHEAD,
    PRECISIONS,
    Groups,
    Placement,
    Planner,
    Result,
    Setting,
    Sizes,
    StepTrace,
    format_bytes,
    make_batch,
    parameter_groups,
    possible_changes,
    recomputing,
    trace_step,
)
from graphformer.planning.batches import Modality
from graphformer.planning.sharding import Strategy
from graphformer.planning.step import convert_parameters, parameter_dtype
from graphformer.tasks import PolicyOptimization, Task

_BATCHES = 8
_NO_DATA = "graphformer.planning.NoData"
_PRECISION_NAMES = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


class Planned(CLI):
    """`fit` up to the first step: the task on shapes, and the settings of its training.

    Args:
        command: the command line of `fit`.
        sizes: of a batch, in place of data: samples, nodes and edges; None reads the data.

    Attributes:
        fake: the mode of the parameters.
        batch: the largest of the first batches, or one of the given sizes.
        one_sample: a batch of one of its samples; None where it cannot be made.
    """

    model: Task
    batch: BatchLike
    one_sample: BatchLike | None

    def __init__(self, command: Command, sizes: Sizes | None = None) -> None:
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.sizes = sizes
        super().__init__(command)

    @property
    def settings(self) -> Any:
        """The settings of the trainer."""
        return self.config.fit.trainer

    def instantiate_classes(self) -> None:
        """Build the task with fake parameters, and a batch."""
        config = self.config.fit
        if self.sizes is not None:
            config.data = Namespace(class_path=_NO_DATA, init_args=Namespace())
        fill_pretrained(config.model, config.data)
        with argument_errors():
            data = fill_sizes(config.model, config.data)
            if data is None:
                data = set_up(config.data)
            with self.fake, warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
                self.model = build(Task, config.model)
        if isinstance(self.model, PolicyOptimization):
            raise UsageError(
                "model: got PolicyOptimization, whose steps generate texts of unknown lengths, "
                "expected a task that trains on its batch; plan SupervisedFineTuning instead"
            )
        self.config_init, self.datamodule = self.config, data
        self.trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        self.model.trainer = self.trainer
        self.trainer.datamodule = data  # type: ignore[attr-defined]
        self.model.configure_model()
        if self.sizes is None:
            self.batch, self.one_sample = _read_batches(data)
        else:
            sizes = self._complete(self.sizes)
            modality = _modality(config.model.init_args.network)
            self.batch = make_batch(modality, sizes, self.fake)
            self.one_sample = make_batch(modality, sizes.one_sample(), self.fake)

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Do nothing."""

    def _complete(self, sizes: Sizes) -> Sizes:
        """Return the sizes with those that the settings of task and network contain."""
        model = self.config.fit.model.init_args
        network = model.network.get("init_args") or Namespace()
        features = network.get("num_features") or 0
        if network.get("patch_size"):
            features = network.channels * network.patch_size**2
        per_sample = model.get("level") == "graph" and not hasattr(self.model, "balance")
        return Sizes(
            sizes.samples,
            sizes.nodes,
            sizes.edges,
            features,
            network.get("num_edge_features") or 0,
            "graph" if per_sample else "node",
        )


@dataclass(frozen=True)
class Plan:
    """What `graphformer plan` prints.

    Attributes:
        network: name of its class.
        parameters: their number.
        samples: of a batch.
        memory: bytes of one device; None if not given.
        asked: the result for the settings as they are.
        alone: the results of one change each.
        fitting: a result that fits, if the one asked for does not.
        most: the result with all changes on as many devices as it needs.
    """

    network: str
    parameters: int
    samples: int
    memory: int | None
    asked: Result
    alone: list[Result]
    fitting: Result | None
    most: Result | None

    def describe(self, setting: Setting) -> str:
        """Return a setting in words."""
        placement = setting.placement
        return f"{placement.strategy}, devices {placement.devices}, precision {setting.precision}"

    def conclusions(self) -> list[str]:
        """Return sentences about what fits, and about glibc's allocator on a CPU."""
        return [*self._verdict(), *self._allocator()]

    def _allocator(self) -> list[str]:
        kept = self.asked.peak.get("allocator", 0)
        if not kept or "MALLOC_MMAP_THRESHOLD_" in os.environ:
            return []
        return [
            "glibc's allocator may keep as much as all tensors again in place of "
            f"{format_bytes(kept)}; with MALLOC_MMAP_THRESHOLD_=1048576 in the environment of fit "
            "it keeps next to nothing"
        ]

    def _verdict(self) -> list[str]:
        if self.memory is None:
            return ["with --memory 80GB, the changes that make it fit are listed"]
        size = format_bytes(self.memory)
        if self.asked.total <= self.memory:
            return [f"it fits into {size} as it is"]
        if self.fitting is not None:
            made = "; ".join(self.fitting.changes)
            return [f"it fits into {size} with: {made} ({format_bytes(self.fitting.total)})"]
        lines = [f"no combination of these changes fits into {size}"]
        if self.most is not None:
            count = self.most.setting.placement.devices
            peak = format_bytes(self.most.total)
            lines.append(f"with all of them it fits on {count:,} devices ({peak} each)")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the plan as JSON's types."""
        results = {"asked": self.asked, "fitting": self.fitting, "most": self.most}
        flops = self.asked.step.flops
        return {
            "network": self.network,
            "parameters": self.parameters,
            "samples": self.samples,
            "nodes": self.asked.step.nodes,
            "edges": self.asked.step.edges,
            "memory": self.memory,
            "flops": {"matmul": flops.matmul, "attention": flops.attention, "total": flops.total},
            **{name: _as_json(result) for name, result in results.items()},
            "one_change": [_as_json(result) for result in self.alone],
        }


def make_plan(arguments: argparse.Namespace, words: Sequence[str]) -> Plan:
    """Return the plan of a training run.

    Args:
        arguments: the options of `plan`.
        words: the options of `fit`.

    Raises:
        UsageError: when a setting is wrong.
    """
    sizes = None
    if arguments.nodes is not None:
        sizes = Sizes(arguments.samples, arguments.nodes, arguments.edges)
        words = ["--data", _NO_DATA, *words]
    elif arguments.edges is not None:
        raise UsageError("--edges: got it without --nodes, expected both; add --nodes")
    planned = Planned(read_command(["fit", *words]), sizes)
    setting = _setting(arguments, planned)
    device = arguments.device or _device(planned.settings.accelerator)
    accumulate = int(planned.settings.accumulate_grad_batches)
    samples = len(lengths(planned.batch))

    def trace(setting: Setting) -> tuple[StepTrace, Groups]:
        task, batch, count = planned.model, planned.batch, accumulate
        if setting.splits and planned.one_sample is not None:
            batch, count = planned.one_sample, accumulate * samples
        options: dict[str, Any] = {
            "precision": setting.precision,
            "accumulate": count,
            "heap_overhead": HEAP_OVERHEAD if device == "cpu" else 0.0,
        }
        with recomputing(task.network, setting.recomputes):
            step = trace_step(task, batch, planned.fake, **options)
        dtype = parameter_dtype(setting.precision)
        with convert_parameters(task, dtype, planned.fake):
            return step, parameter_groups(task)

    stacks = [each for each in planned.model.network.modules() if isinstance(each, Transformer)]
    changes = possible_changes(
        setting,
        devices=setting.placement.devices,
        has_stack=bool(stacks),
        samples=samples if planned.one_sample is not None else 1,
    )
    planner = Planner(trace, setting, changes)
    asked, memory = planner.result(), arguments.memory
    is_large = memory is not None and asked.total > memory
    fitting = planner.fitting(memory) if is_large else None
    return Plan(
        network=type(planned.model.network).__name__,
        parameters=count_parameters(planned.model.network),
        samples=samples,
        memory=memory,
        asked=asked,
        alone=planner.alone() if memory is None or is_large else [],
        fitting=fitting,
        most=planner.devices_needed(memory) if is_large and fitting is None else None,
    )


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _setting(arguments: argparse.Namespace, planned: Planned) -> Setting:
    trainer = planned.settings
    devices = arguments.devices or (trainer.devices if isinstance(trainer.devices, int) else 1)
    strategy = arguments.strategy or _strategy(trainer.strategy, devices)
    if strategy == "single" and devices > 1:
        raise UsageError(f"--strategy: got single with {devices} devices, expected ddp or fsdp2")
    precision = str(arguments.precision or trainer.precision or "32-true")
    precision = _PRECISION_NAMES.get(precision, precision)
    if precision not in PRECISIONS:
        hint = suggestion(precision, PRECISIONS) or f"; choose one of {', '.join(PRECISIONS)}"
        raise UsageError(f"--precision: got {precision!r}{hint}")
    stacks = [each for each in planned.model.network.modules() if isinstance(each, Transformer)]
    recomputes = stacks[0].activation_checkpointing if stacks else None
    _, _, kind = planned.model.optimizer_name.partition("_")
    placement = Placement(strategy, devices, offloads=kind == "offload", eight_bit=kind == "8bit")
    return Setting(recomputes, precision, False, placement)


def _device(accelerator: object) -> str:
    """Return the device that an accelerator's name means here."""
    if accelerator in ("cpu", "cuda", "gpu"):
        return "cpu" if accelerator == "cpu" else "cuda"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _strategy(given: Any, devices: int) -> Strategy:
    """Return the strategy of a trainer's setting.

    Raises:
        UsageError: when plans do not know it.
    """
    name = given if isinstance(given, str) else str(given.class_path).rpartition(".")[2]
    if name in ("auto", "single_device"):
        return "single" if devices == 1 else "ddp"
    if name.lower().startswith("ddp"):
        return "ddp"
    if name == "ModelParallelStrategy":
        return "fsdp2"
    raise UsageError(
        f"trainer.strategy: got {name!r}, expected auto, ddp or ModelParallelStrategy; "
        "set --strategy"
    )


def _modality(network: Namespace) -> Modality:
    """Return what a network reads, by the package of its builder."""
    module = inspect.getmodule(inspect.unwrap(import_object(network.class_path)))
    name = "" if module is None else module.__name__
    for modality in ("text", "vision", "graph"):
        if name.startswith(f"graphformer.models.{modality}."):
            return modality
    raise UsageError(
        f"--tokens: got a network {network.class_path}, expected a builder of text, vision or "
        "graph models; plan with data instead"
    )


def _read_batches(data: Any) -> tuple[BatchLike, BatchLike | None]:
    """Return the largest of the first training batches, and one of its samples if possible."""
    loader = data.train_dataloader()
    if not isinstance(loader, BatchLoader):
        return max(islice(iter(loader), _BATCHES), key=_size), None
    batch: BatchLike = max(islice(iter(loader), _BATCHES), key=_size)
    index = next(iter(loader.sampler))
    one: BatchLike | None = loader.dataset[index[:1]] if len(index) > 1 else None
    return batch, one


def _size(batch: BatchLike) -> int:
    return int(batch.num_nodes or 0) + int(batch.num_edges)


def _as_json(result: Result | None) -> dict[str, object] | None:
    if result is None:
        return None
    flops = result.step.flops
    return {
        "changes": list(result.changes),
        "setting": asdict(result.setting),
        "peak": result.peak,
        "total": result.total,
        "flops": flops.total,
    }
