"""Which changes of the training make a step fit into a memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from graphformer.nn.block import ActivationCheckpointing
from graphformer.planning.sharding import Groups, Placement, at_peak
from graphformer.planning.step import StepTrace

_MOMENT_BYTES = {"bf16-true": 2, "16-true": 2, "64-true": 8}


@dataclass(frozen=True)
class Setting:
    """How a model is trained.

    Attributes:
        recomputes: `activation_checkpointing`; None leaves it as the network has it.
        precision: of the trainer.
        splits: whether each sample is a batch of its own, with accumulated gradients.
        placement: of parameters, gradients and the optimiser's state.
    """

    recomputes: ActivationCheckpointing | None
    precision: str
    splits: bool
    placement: Placement


@dataclass(frozen=True)
class Result:
    """The memory of one device under a setting.

    Attributes:
        changes: names of the changes to the setting that was asked for.
        setting: the setting.
        peak: bytes by category at the peak of a step.
        step: the trace of the step.
    """

    changes: tuple[str, ...]
    setting: Setting
    peak: dict[str, int]
    step: StepTrace

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(self.peak.values())


Change = tuple[str, Callable[[Setting], Setting]]
Trace = Callable[[Setting], tuple[StepTrace, Groups]]


class Planner:
    """Measures settings on shapes, each once.

    Args:
        trace: traces a step under a setting; its placement has no influence.
        setting: the setting that was asked for.
        changes: changes of it in the order in which they are tried.
    """

    def __init__(self, trace: Trace, setting: Setting, changes: Sequence[Change]) -> None:
        self.setting, self.changes = setting, changes
        self._trace = cache(trace)

    def result(self, changes: Sequence[Change] = ()) -> Result:
        """Return the memory under some changes."""
        setting = self.setting
        for _, change in changes:
            setting = change(setting)
        step, groups = self._trace(replace(setting, placement=Placement()))
        moment_bytes = _MOMENT_BYTES.get(setting.precision, 4)
        peak = at_peak(step.timeline, setting.placement, groups, moment_bytes=moment_bytes)
        return Result(tuple(name for name, _ in changes), setting, peak, step)

    def alone(self) -> list[Result]:
        """Return the memory under each change alone."""
        return [self.result([change]) for change in self.changes]

    def fitting(self, memory: int) -> Result | None:
        """Return a setting of few changes that fits into a number of bytes; None if none does.

        The changes are made in their order until the step fits; those that turn out not to be
        necessary are dropped.
        """
        made: list[Change] = []
        for change in self.changes:
            if self.result(made).total <= memory:
                break
            made.append(change)
        if self.result(made).total > memory:
            return None
        for change in list(made):
            fewer = [each for each in made if each is not change]
            if self.result(fewer).total <= memory:
                made = fewer
        return self.result(made)

    def devices_needed(self, memory: int, limit: int = 2**16) -> Result | None:
        """Return the result with all changes on the fewest devices, a power of two, that fits."""
        devices = 1
        while devices <= limit:
            result = self.result([*self.changes, sharded(devices)])
            if result.total <= memory:
                return result
            devices *= 2
        return None


def possible_changes(
    setting: Setting, *, devices: int, has_stack: bool, samples: int
) -> list[Change]:
    """Return the changes that a setting does not have yet, those that cost least time first.

    Args:
        setting: that was asked for.
        devices: number of devices.
        has_stack: whether the network has a Transformer, whose blocks can be recomputed.
        samples: of a batch.
    """
    changes: list[Change] = []
    if samples > 1 and not setting.splits:
        changes.append((f"accumulate {samples} batches of 1 sample", _split))
    if setting.precision.startswith("32"):
        changes.append(("precision bf16-mixed", lambda s: replace(s, precision="bf16-mixed")))
    if has_stack and setting.recomputes is not True:
        if setting.recomputes != "attention":
            changes.append(("checkpointing of attention", _recompute_attention))
        changes.append(("checkpointing of blocks", lambda s: replace(s, recomputes=True)))
    if devices > 1 and setting.placement.strategy != "fsdp2":
        changes.append(sharded(devices))
    if not setting.placement.eight_bit:
        changes.append(("8-bit optimiser state", _eight_bit))
    if not setting.placement.offloads:
        changes.append(("optimiser state on the host", _offload))
    if not setting.precision.endswith("16-true"):
        changes.append(("precision bf16-true", lambda s: replace(s, precision="bf16-true")))
    return changes


def sharded(devices: int) -> Change:
    """Return the change to FSDP2 over a number of devices."""

    def change(setting: Setting) -> Setting:
        placement = replace(setting.placement, strategy="fsdp2", devices=devices)
        return replace(setting, placement=placement)

    return f"fsdp2 over {devices} devices", change


def _split(setting: Setting) -> Setting:
    return replace(setting, splits=True)


def _recompute_attention(setting: Setting) -> Setting:
    return replace(setting, recomputes="attention")


def _eight_bit(setting: Setting) -> Setting:
    return replace(setting, placement=replace(setting.placement, eight_bit=True))


def _offload(setting: Setting) -> Setting:
    return replace(setting, placement=replace(setting.placement, offloads=True))
