"""What a traced step has allocated over time, by category, and the peak of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Category = Literal[
    "parameters", "gradients", "optimizer", "activations", "adjacency", "temporary", "allocator"
]
CATEGORIES: tuple[Category, ...] = (
    "parameters", "gradients", "optimizer", "activations", "adjacency", "temporary", "allocator"
)  # fmt: skip
HEAP_OVERHEAD = 0.4
"""What glibc's `malloc` keeps beside tensors in its heap, in their bytes.

An estimate. Measured on a CPU: 0.32 to 0.5 in runs on texts and images, 1.0 in one on a graph, see
`experiments/plan_accuracy.py`. Free blocks between others stay in the heap; how many depends on the
addresses and is not the same in every run.
"""
HEAP_BLOCKS = 32 << 20
"""Size of the largest blocks in the heap; mallopt(3), `M_MMAP_THRESHOLD`."""

Factors = Mapping[Category, float]


@dataclass
class Events:
    """Allocations and frees in their order; allocation i may be given a category later.

    Attributes:
        sizes: bytes of each allocation.
        categories: of each allocation.
        changes: numbers of allocations: i + 1 for an allocation, -(i + 1) for its free.
        phases: the number of changes before each phase.
    """

    sizes: list[int] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    phases: list[int] = field(default_factory=lambda: [0])

    def allocate(self, size: int, category: Category = "temporary") -> int:
        """Add an allocation and return its number."""
        self.sizes.append(size)
        self.categories.append(category)
        self.changes.append(len(self.sizes))
        return len(self.sizes) - 1

    def free(self, number: int) -> None:
        """Add the end of an allocation."""
        self.changes.append(-(number + 1))

    def begin_step(self) -> None:
        """Note that the step that is planned begins; phases before it are dropped."""
        self.phases = [len(self.changes)]

    def begin_phase(self) -> None:
        """Note that a new phase of the step begins."""
        self.phases.append(len(self.changes))

    def timeline(self, heap_overhead: float = 0.0) -> Timeline:
        """Return the allocated bytes after each change.

        Args:
            heap_overhead: what an allocator keeps beside blocks up to `HEAP_BLOCKS`, in their
                bytes.
        """
        changes = np.asarray(self.changes, dtype=np.int64)
        numbers = np.abs(changes) - 1
        column = {name: i for i, name in enumerate(CATEGORIES)}
        columns = np.asarray([column[name] for name in self.categories], dtype=np.int64)
        deltas = np.zeros((len(changes), len(CATEGORIES)), dtype=np.int64)
        sizes = np.asarray(self.sizes, dtype=np.int64)
        signed = sizes[numbers] * np.sign(changes)
        deltas[np.arange(len(changes)), columns[numbers]] = signed
        kept = np.where(sizes[numbers] <= HEAP_BLOCKS, heap_overhead * signed, 0)
        deltas[:, column["allocator"]] = kept.astype(np.int64)
        ends = [*self.phases[1:], len(changes)]
        live = deltas.cumsum(0)
        return Timeline([live[a:b] for a, b in zip(self.phases, ends, strict=True) if b > a])


@dataclass(frozen=True)
class Timeline:
    """Allocated bytes by time and category in each phase of a step, int64 [T, categories]."""

    phases: Sequence[np.ndarray]

    def at_peaks(self, factors: Factors | None = None) -> np.ndarray:
        """Return the bytes by category at the peak of each phase, [phases, categories].

        A category with a factor counts that often.
        """
        weights = _weights(factors)
        rows = [live[int((live @ weights).argmax())] * weights for live in self.phases]
        return np.stack(rows)

    def at_peak(self, factors: Factors | None = None) -> dict[Category, int]:
        """Return the bytes by category at the time of the peak."""
        return _largest(self.at_peaks(factors))

    def peak(self, factors: Factors | None = None) -> int:
        """Return the largest total."""
        return sum(self.at_peak(factors).values())


@dataclass(frozen=True)
class DeepTimeline:
    """The timeline of many equal blocks, extrapolated from those of two smaller numbers.

    What a phase has allocated at its peak is linear in the number of blocks.

    Attributes:
        shallow, deep: the timelines.
        depths: their numbers of blocks.
        depth: the number of blocks.
    """

    shallow: Timeline
    deep: Timeline
    depths: tuple[int, int]
    depth: int

    def at_peak(self, factors: Factors | None = None) -> dict[Category, int]:
        """Return the bytes by category at the time of the peak."""
        low, high = self.shallow.at_peaks(factors), self.deep.at_peaks(factors)
        first, second = self.depths
        return _largest(low + (high - low) * (self.depth - first) / (second - first))

    def peak(self, factors: Factors | None = None) -> int:
        """Return the largest total."""
        return sum(self.at_peak(factors).values())


def _largest(rows: np.ndarray) -> dict[Category, int]:
    """Return the row of the largest sum by category."""
    row = rows[int(rows.sum(1).argmax())]
    return dict(zip(CATEGORIES, map(int, row), strict=True))


def _weights(factors: Factors | None) -> np.ndarray:
    given: Sequence[float] = [(factors or {}).get(name, 1.0) for name in CATEGORIES]
    return np.asarray(given, dtype=np.float64)
