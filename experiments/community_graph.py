"""Write a random graph of communities to a folder, in chunks: any size fits in memory.

    python experiments/community_graph.py data/communities --nodes 200000 --degree 20

The community of a node is its class, one of 16. Four in five edges stay within a community; the
degrees follow a power law with exponent 3, for sources and for targets. Features are noise plus a
weak signal of the class, in half precision. One node in 20 is for training, and one in 100 for
validation and for testing each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import numpy as np

from graphformer.data import MemoryMappedGraph, write_graph

CLASSES = 16
CHUNK = 1 << 20


class Communities:
    """Nodes in 16 communities of equal size, in chunks that depend on the seed only.

    Node number `step * j % nodes` is number j // 16 of the community j % 16, so that popular nodes
    and the nodes of a community are anywhere in the files.
    """

    def __init__(self, nodes: int, degree: int, features: int, seed: int = 0) -> None:
        self.nodes, self.degree, self.features, self.seed = nodes, degree, features, seed
        self.size = nodes // CLASSES
        step = int(nodes * 0.618) | 1
        while math.gcd(step, nodes) > 1:
            step += 2
        self.step, self.inverse = step, pow(step, -1, nodes)

    def edges(self) -> Iterator[np.ndarray]:
        """Yield edges [2, e]."""
        generator = np.random.default_rng((self.seed, 0))
        left = self.nodes * self.degree
        while left:
            count = min(left, CHUNK)
            target = generator.integers(CLASSES, size=count)
            other = generator.integers(CLASSES, size=count)
            source = np.where(generator.random(count) < 0.8, target, other)
            yield np.stack([self._draw(generator, source), self._draw(generator, target)])
            left -= count

    def labels(self) -> Iterator[np.ndarray]:
        """Yield the community of each node, [n]."""
        for start in range(0, self.nodes, CHUNK):
            number = np.arange(start, min(start + CHUNK, self.nodes), dtype=np.int64)
            yield (self._times(number, self.inverse) % CLASSES).astype(np.int8)

    def x(self) -> Iterator[np.ndarray]:
        """Yield features [n, F]."""
        for chunk, y in enumerate(self.labels()):
            generator = np.random.default_rng((self.seed, 1, chunk))
            x = generator.standard_normal((len(y), self.features), dtype=np.float32)
            x[np.arange(len(y)), y] += 1.0
            yield x.astype(np.float16)

    def _draw(self, generator: np.random.Generator, community: np.ndarray) -> np.ndarray:
        # The density of u^2 falls as the power -1/2, so degrees fall with the exponent 3.
        rank = (self.size * generator.random(len(community)) ** 2).astype(np.int64)
        return self._times(rank * CLASSES + community, self.step)

    def _times(self, number: np.ndarray, factor: int) -> np.ndarray:
        return number * factor % self.nodes


def make(folder: str, nodes: int, degree: int, features: int) -> MemoryMappedGraph:
    """Write the graph."""
    graph = Communities(nodes, degree, features)
    draw = np.random.default_rng(2).integers(100, size=nodes, dtype=np.uint8)
    splits = {"train": draw < 5, "val": draw == 5, "test": draw == 6}
    return write_graph(
        folder,
        num_nodes=nodes,
        edges=graph.edges(),
        fields={"x": graph.x(), "y": graph.labels()},
        splits=splits,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of the graph; it must not exist")
    parser.add_argument("--nodes", type=int, default=200_000)
    parser.add_argument("--degree", type=int, default=20)
    parser.add_argument("--features", type=int, default=64)
    options = parser.parse_args()
    print(make(options.folder, options.nodes, options.degree, options.features))


if __name__ == "__main__":
    main()
