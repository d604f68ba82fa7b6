"""Cases of the benchmark: the time of each peer for one piece of work, and targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from bench import peers
from bench.peers import OURS, PLAIN, Work
from bench.timing import WrongResultError, check, forward_backward, interleaved, ratios

GIB = 2**30


@dataclass
class Options:
    """How long to measure, and on which device."""

    quick: bool = False
    device: str = "cpu"

    @property
    def seconds(self) -> float:
        """Time to measure one case."""
        return 2.0 if self.quick else 20.0

    @property
    def rounds(self) -> dict[str, int]:
        return {"most": 7, "least": 2} if self.quick else {"most": 25, "least": 4}


@dataclass
class Target:
    """A goal: `measured` is at least (or, with `below`, at most) `wanted`."""

    work: str
    wanted: float
    measured: float | None
    below: bool = False
    unit: str = "x"
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.below else self.measured >= self.wanted


@dataclass
class Case:
    """One piece of work and the measurements of each peer."""

    name: str
    work: dict[str, Any]
    peers: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def ratio(self, peer: str) -> float | None:
        """The peer's time over ours, forward and backward; None if it was not timed."""
        return self.peers[peer]["both ratio"]["median"] if peer in self.peers else None


def compare(name: str, work: Work, kind: str, names: list[str], options: Options) -> Case:
    """Compare the results of the peers on one piece of work, then time them."""
    builders = peers.ON_CUDA | peers.ATTENTION if kind == "attention" else peers.ADDITIVE
    case = Case(name, work.describe())
    inputs = work.inputs(kind)
    gradient = torch.randn(inputs[-1].shape, generator=torch.Generator().manual_seed(2))
    gradient = gradient.to(work.device, work.dtype)
    missing = peers.absent(work.device)
    steps, expected = {}, None
    if work.dtype != torch.float32:
        wide = [x.detach().float().requires_grad_() for x in inputs]
        expected = check(builders[PLAIN](work), wide, gradient.float(), None)
    for peer in sorted(
        names, key=lambda peer: peer != PLAIN
    ):  # the definition is first: the others are compared with it
        if peer in missing:
            case.refused[peer] = missing[peer]
            continue
        call = builders[peer](work)
        try:
            results = check(call, inputs, gradient, expected)
        except WrongResultError as error:
            case.refused[peer] = f"wrong: {error}"
            continue
        expected = expected or results
        steps[peer] = forward_backward(call, inputs, gradient)
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    return case
