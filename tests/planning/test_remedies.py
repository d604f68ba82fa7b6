"""Changes that make a step fit, and what placements do to its memory."""

from __future__ import annotations

import numpy as np
import pytest

from graphformer.planning import Groups, Placement, Planner, Setting, StepTrace, possible_changes
from graphformer.planning.flops import Flops
from graphformer.planning.remedies import sharded
from graphformer.planning.sharding import at_peak
from graphformer.planning.timeline import CATEGORIES, Events, Timeline

GROUPS = Groups(layer=7, root=11)


def trace(setting: Setting) -> tuple[StepTrace, Groups]:
    """A step of 1,000 bytes of parameters whose activations the setting makes smaller."""
    activations = 5_000
    if setting.recomputes:
        activations //= 10 if setting.recomputes is True else 2
    if setting.splits:
        activations //= 4
    row = dict.fromkeys(CATEGORIES, 0)
    row |= {"parameters": 1_000, "gradients": 1_000, "optimizer": 2_000, "activations": activations}
    timeline = Timeline([np.array([[row[name] for name in CATEGORIES]])])
    return StepTrace(timeline, Flops(), [13], 17), GROUPS


def planner(devices: int = 1, samples: int = 4) -> Planner:
    strategy = "single" if devices == 1 else "ddp"
    setting = Setting(False, "32-true", False, Placement(strategy, devices))
    changes = possible_changes(setting, devices=devices, has_stack=True, samples=samples)
    return Planner(trace, setting, changes)


def test_the_peak_is_the_sum_of_what_is_allocated_at_one_time() -> None:
    events = Events()
    first = events.allocate(100, "parameters")
    events.begin_phase()
    second = events.allocate(30)
    events.free(second)
    third = events.allocate(50, "activations")
    events.begin_phase()
    events.free(first)
    events.allocate(70, "gradients")
    events.free(third)
    timeline = events.timeline()
    assert timeline.peak() == 150
    assert timeline.at_peak()["activations"] == 50
    assert timeline.peak({"parameters": 0.1}) == 120  # another time
    assert timeline.at_peak({"parameters": 0.1})["gradients"] == 70
    assert events.timeline(0.5).at_peak()["allocator"] == 75


def test_placements_divide_parameters_and_state() -> None:
    step, _ = trace(Setting(False, "32-true", False, Placement()))
    single = at_peak(step.timeline, Placement(), GROUPS)
    assert single["communication"] == 0
    ddp = at_peak(step.timeline, Placement("ddp", 4), GROUPS)
    assert ddp == {**single, "communication": 1_000}
    sharded = at_peak(step.timeline, Placement("fsdp2", 4), GROUPS)
    shares = {"parameters": 250, "gradients": 250, "optimizer": 500}
    assert sharded == {**single, **shares, "communication": 2 * 11 + 3 * 7}
    assert at_peak(step.timeline, Placement(offloads=True), GROUPS)["optimizer"] == 0
    assert at_peak(step.timeline, Placement(eight_bit=True), GROUPS)["optimizer"] == 507
    narrow = at_peak(step.timeline, Placement(eight_bit=True), GROUPS, moment_bytes=2)
    assert narrow["optimizer"] == 1_015


@pytest.mark.parametrize(
    ("memory", "changes"),
    [
        (9_000, ()),
        (5_250, ("accumulate 4 batches of 1 sample",)),
        (4_200, ("accumulate 4 batches of 1 sample", "checkpointing of blocks")),
    ],
)
def test_few_changes_are_found(memory: int, changes: tuple[str, ...]) -> None:
    found = planner().fitting(memory)
    assert found is not None
    assert found.changes == changes
    assert found.total <= memory


def test_nothing_may_fit() -> None:
    assert planner().fitting(100) is None
    needed = planner(8).devices_needed(400)
    assert needed is not None
    half = sharded(needed.setting.placement.devices // 2)
    assert needed.total <= 400 < planner().result([*planner().changes, half]).total
    assert planner().devices_needed(10) is None


def test_changes_that_are_made_are_not_offered() -> None:
    setting = Setting(True, "bf16-true", True, Placement("fsdp2", 8, offloads=True, eight_bit=True))
    assert possible_changes(setting, devices=8, has_stack=True, samples=4) == []
