"""Small graphs, on which dispatch takes longer than arithmetic: layers, attention, adjacencies."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv

import graphformer as gf
from bench import graphs
from bench.cases import Case, Options, Target
from bench.peers import OURS, PYG
from bench.timing import Step, check, interleaved, ratios

CALLS = 50
"""Calls per timed step: one takes a fraction of a millisecond."""
LAYERS = [(20, 3, 1.0, 1.0), (200, 4, 1.5, 1.3)]
"""Nodes, degree, and the targets with the same edges and with new edges in each step."""


def small(options: Options) -> Iterator[Case]:
    """Training steps of TransformerConv against PyG, and the time of single calls."""
    for nodes, degree, same, new in LAYERS:
        for name, count, wanted in (("same edges", 1, same), ("new edges", 2 * CALLS, new)):
            case = _layer(nodes, degree, count, options)
            case.name = f"TransformerConv 64 to 4 x 16, {nodes} nodes, degree {degree}, {name}"
            case.targets = [Target(f"{case.name}, against PyG", wanted, case.ratio(PYG))]
            yield case
    yield from _functions(options)


def _layer(nodes: int, degree: int, count: int, options: Options) -> Case:
    """Time both layers on `count` edge lists in turn; several are a new tensor in each step."""
    torch.manual_seed(1)
    theirs = TransformerConv(64, 16, heads=4)
    ours = gf.accelerate(nn.ModuleList([copy.deepcopy(theirs)]), quiet=True)[0]
    edges = [graphs.uniform(nodes, degree, seed=seed) for seed in range(count)]
    x = torch.randn(nodes, 64, requires_grad=True)
    gradient = torch.randn(nodes, 64)
    expected = check(lambda x: theirs(x, edges[0]), [x], gradient, None)
    check(lambda x: ours(x, edges[0]), [x], gradient, expected)
    steps = {
        name: _steps(layer, x, edges, gradient) for name, layer in ((OURS, ours), (PYG, theirs))
    }
    case = Case("", {"nodes": nodes, "edges": nodes * degree, "edge lists": count})
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    return case


def _steps(layer: nn.Module, x: Tensor, edges: list[Tensor], gradient: Tensor) -> Step:
    lists = cycle(edges)

    def one() -> tuple[float, float]:
        edge_index = next(lists)
        edge_index = edge_index.clone() if len(edges) > 1 else edge_index
        start = time.perf_counter()
        out = layer(x, edge_index)
        middle = time.perf_counter()
        out.backward(gradient)
        return middle - start, time.perf_counter() - start

    def step() -> tuple[float, float]:
        pairs = [one() for _ in range(CALLS)]
        return sum(pair[0] for pair in pairs) / CALLS, sum(pair[1] for pair in pairs) / CALLS

    return step


def _functions(options: Options) -> Iterator[Case]:
    """The time of single calls, in microseconds."""
    q = torch.randn(20, 4, 16, requires_grad=True)
    adjacency = gf.from_edge_index(graphs.uniform(20, 3), 20)
    edges = graphs.uniform(2000, 4)
    calls: list[tuple[str, float, Callable[[], object]]] = [
        ("one attention forward, 20 nodes", 80.0, lambda: gf.attention(q, q, q, adjacency)),
        (
            "from_edge_index, 2,000 nodes, 8,000 edges",
            200.0,
            lambda: gf.from_edge_index(edges, 2000),
        ),
    ]
    for name, wanted, call in calls:
        case = Case(name, {"calls": CALLS})
        times = interleaved({OURS: _repeated(call)}, options.seconds, **options.rounds)
        case.peers = ratios(times, OURS)
        microseconds = 1e6 * case.peers[OURS]["forward"]["median"]
        case.targets = [Target(name, wanted, microseconds, below=True, unit=" µs")]
        yield case


def _repeated(call: Callable[[], object]) -> Step:
    def step() -> tuple[float, float]:
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        seconds = (time.perf_counter() - start) / CALLS
        return seconds, seconds

    return step
