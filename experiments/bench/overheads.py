"""Edges by head, torch.compile of the PyG way, import and first call, and making of masks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

import graphformer as gf
from bench import graphs, peers
from bench.cases import Case, Options, Target, compare
from bench.peers import COMPILED, OURS, PLAIN, PYG, Work
from bench.timing import Step, forward_backward, interleaved, ratios
from graphformer.adjacency import HeadEdges
from graphformer.data.batch import Batch, pack_tokens
from graphformer.models import Model
from graphformer.models.text.builders import sentence_embedder

HEADS, DEGREE = 8, 20
FIRST_CALL = """
import time
start = time.perf_counter()
import torch
before = time.perf_counter()
import graphformer as gf
q = torch.ones(20, 4, 16, requires_grad=True)
edges = torch.arange(20).repeat(2, 1)
imported = time.perf_counter()
gf.attention(q, q, q, gf.from_edge_index(edges, 20)).sum().backward()
print(before - start, imported - before, time.perf_counter() - imported)
"""


def by_head(options: Options) -> Iterator[Case]:
    """Heads with edges of their own against as many shared edges, and dense ones."""
    nodes = 1000 if options.quick else 4000
    heads = [
        gf.from_edge_index(graphs.uniform(nodes, DEGREE, seed), nodes) for seed in range(HEADS)
    ]
    work = Work(graphs.uniform(nodes, DEGREE), nodes, HEADS, 16)
    calls = {"shared": peers.ours(work), OURS: _on(HeadEdges.of(*heads))}
    case = _timed(f"{nodes:,} nodes, {HEADS} heads with {DEGREE} edges", work, calls, options)
    wanted = f"edges by head, {case.name}, time of that of shared edges"
    ratio = case.peers[OURS]["both"]["median"] / case.peers["shared"]["both"]["median"]
    case.targets = [Target(wanted, 1.3, ratio, below=True)]
    yield case
    yield from _encoder_by_head(options)


def _encoder_by_head(options: Options) -> Iterator[Case]:
    """An encoder of MiniLM's shape whose heads have edges of their own in every block."""
    encoder, length, heads = sentence_embedder(1000, dim=384, depth=6, num_heads=12), 512, 12
    encoder.eval()
    texts = pack_tokens(torch.randint(1000, (2, length)).tolist())
    for degree, wanted in ((271, 1.05), (34, 0.9)):
        masks = torch.rand(len(encoder.transformer.blocks), heads, length, length) < degree / length
        own = [
            HeadEdges.of(*(gf.from_mask(torch.block_diag(mask, mask)) for mask in block))
            for block in masks
        ]
        adjacencies = {"complete": gf.complete(texts.lengths), OURS: own}
        steps = {name: _forward(encoder, texts, each) for name, each in adjacencies.items()}
        case = Case(f"encoder, 2 x {length} tokens, {heads} heads with {degree} edges", {})
        case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
        ratio = 1 / case.peers["complete"]["forward ratio"]["median"]
        what = f"{case.name}, time of that of the complete graph"
        case.targets = [Target(what, wanted, ratio, below=True)]
        yield case


def _forward(model: Model, batch: Batch, adjacency: gf.Adjacency | list[gf.Adjacency]) -> Step:
    def step() -> tuple[float, float]:
        with torch.inference_mode():
            seconds = _seconds(lambda: model(batch, adjacency))
        return seconds, seconds

    return step


def compiled(options: Options) -> Iterator[Case]:
    """The PyG way under torch.compile, which needs a C++ compiler."""
    rows = [(4000, 16, 10.0), (4000, 64, 9.0), (20000, 16, 6.0)]
    for nodes, width, wanted in rows[: 1 if options.quick else None]:
        work = Work(graphs.uniform(nodes, DEGREE), nodes, HEADS, width)
        name = f"{nodes:,} nodes, degree {DEGREE}, {HEADS} x {width}"
        case = compare(name, work, "attention", [OURS, PLAIN, PYG, COMPILED], options)
        what = f"attention, {name}, against torch.compile of PyG's way"
        case.targets = [Target(what, wanted, case.ratio(COMPILED))]
        yield case


def start(options: Options) -> Iterator[Case]:
    """Import and first call, forward and backward, in new processes with a warm kernel cache."""
    found = []
    for _ in range(3 if options.quick else 7):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True
        )
        found.append(tuple(map(float, done.stdout.split())))
    case = Case("a new process", {"processes": len(found)})
    torch_s, own, call = map(min, zip(*found, strict=True))
    case.facts = {"import torch, s": torch_s, "import graphformer, s": own, "first call, s": call}
    what = "import graphformer and a first call in a new process, besides torch"
    case.targets = [Target(what, 2.0, own + call, below=True, unit=" s")]
    yield case


def masks(options: Options) -> Iterator[Case]:
    """Making the block mask of documents and windows, which is cached, beside attention on it."""
    from graphformer.ops import flex

    length = 512 if options.quick else 4096
    rules: dict[str, Callable[[int], gf.Adjacency]] = {
        "documents": lambda i: gf.causal((length // 2 - i, length // 2 + i)),
        "windows": lambda i: gf.window((length // 2 - i, length // 2 + i), 64),
    }
    for name, make in rules.items():
        times = []
        for i in range(1, 6):  # each of other lengths, because masks are cached
            rule = make(i)
            times.append(_seconds(lambda rule=rule: flex.block_mask(*flex.rules_of(rule))))
        work = Work(torch.empty(2, 0), length, HEADS, 64)
        inputs = work.inputs("attention")
        call = _on(make(0))
        call(*inputs)
        attention = min(_seconds(partial(call, *inputs)) for _ in range(5))
        case = Case(f"{name}, {length:,} nodes", {"nodes": length})
        case.facts = {"block mask, s": min(times), "attention forward, s": attention}
        what = f"making the block mask of {case.name}, share of the attention's forward pass"
        case.targets = [Target(what, 0.1, min(times) / attention, below=True)]
        yield case


def _on(adjacency: gf.Adjacency) -> peers.Call:
    return lambda q, k, v: gf.attention(q, k, v, adjacency)


def _timed(name: str, work: Work, calls: dict[str, peers.Call], options: Options) -> Case:
    inputs = work.inputs("attention")
    gradient = torch.randn_like(inputs[0])
    steps = {peer: forward_backward(call, inputs, gradient) for peer, call in calls.items()}
    case = Case(name, work.describe())
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    return case


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
