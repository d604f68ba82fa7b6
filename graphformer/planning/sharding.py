"""What strategies, offloading and 8-bit optimisers change of a step's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from graphformer.distributed.shard import stacked_layers
from graphformer.planning.timeline import Category, DeepTimeline, Timeline

Strategy = Literal["single", "ddp", "fsdp2"]
STRATEGIES: tuple[Strategy, ...] = ("single", "ddp", "fsdp2")
_EIGHT_BIT = 1 + 4 / 256
"""Bytes of an 8-bit moment, with a scale for each 256 elements."""


@dataclass(frozen=True)
class Placement:
    """Where parameters, gradients and the state of the optimiser are.

    Attributes:
        strategy: "single", "ddp" or "fsdp2".
        devices: number of devices; every one trains on a batch of its own.
        offloads: whether the optimiser's state is in the memory of the host.
        eight_bit: whether the optimiser's moments have 8 bits.
    """

    strategy: Strategy = "single"
    devices: int = 1
    offloads: bool = False
    eight_bit: bool = False

    def factors(self, moment_bytes: int = 4) -> dict[Category, float]:
        """Return the share of a category's bytes that one device has.

        Args:
            moment_bytes: of a moment that is not of 8 bits.
        """
        share = 1 / self.devices if self.strategy == "fsdp2" else 1.0
        narrow = min(1.0, _EIGHT_BIT / moment_bytes) if self.eight_bit else 1.0
        state = 0.0 if self.offloads else share * narrow
        return {"parameters": share, "gradients": share, "optimizer": state}


@dataclass(frozen=True)
class Groups:
    """Bytes of the parameters that FSDP2 gathers together.

    Attributes:
        layer: of the largest layer.
        root: of what is in no layer.
    """

    layer: int
    root: int


def parameter_groups(module: nn.Module) -> Groups:
    """Return the sizes of the groups of `shard_parameters`."""
    layers = list(stacked_layers(module))
    inside = {p for layer in layers for p in layer.parameters()}
    sizes = [sum(p.numel() * p.element_size() for p in layer.parameters()) for layer in layers]
    root = sum(p.numel() * p.element_size() for p in module.parameters() if p not in inside)
    return Groups(max(sizes, default=0), root)


def at_peak(
    timeline: Timeline | DeepTimeline,
    placement: Placement,
    groups: Groups,
    *,
    moment_bytes: int = 4,
) -> dict[str, int]:
    """Return the bytes of one device by category at the peak of a step.

    "communication" is what the strategy adds: for DDP the buckets of the gradients, for FSDP2 the
    gathered parameters of the root and of two layers, and their gradients before they are reduced.
    """
    peak: dict[str, int] = dict(timeline.at_peak(placement.factors(moment_bytes)).items())
    extra = 0
    if placement.devices > 1 and placement.strategy == "ddp":
        extra = timeline.at_peak()["parameters"]
    if placement.devices > 1 and placement.strategy == "fsdp2":
        extra = 2 * groups.root + 3 * groups.layer
    return {**peak, "communication": extra}
