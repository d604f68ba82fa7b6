"""Figures of `gpu_quick.py`, in order of worth: each is a ratio in one run, with its target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench import graphs, peers
from bench.peers import ANEMOI, COMPILED, FLEX, OURS, PYG, SDPA, Work
from graphformer import adjacency, ops

Figure = Callable[[], dict[str, Any]]
SECONDS = 1.5
"""For the calls of one figure, after warming up."""


def figures(*, quick: bool) -> Iterator[tuple[str, Figure]]:
    """Yield the name of each figure and the function that measures it."""
    nodes = 10_000 if quick else 100_000
    float32, bfloat16 = torch.float32, torch.bfloat16
    for dtype, width in [(bfloat16, 32), (float32, 16), (bfloat16, 64), (float32, 64)]:
        name = f"attention, {nodes:,} nodes, degree 16, 8 x {width}, {_short(dtype)}, against PyG"
        yield name, partial(_attention, nodes, width, dtype, [PYG], 8.0)
    name = f"attention, {nodes:,} nodes, 8 x 32, float32, against torch.compile of PyG's way"
    yield name, partial(_attention, nodes, 32, float32, [COMPILED], 2.0)
    yield "power law with a hub, time of that of even degrees", partial(_hub, 16 * nodes // 2)
    for dtype in (float32, bfloat16):
        name = f"forward, 8 x 64, {_short(dtype)}, share of the bandwidth of a copy"
        yield name, partial(_bandwidth, nodes, dtype)
    length = 4096 if quick else 32_768
    yield f"window of 256 at {length:,}, against FlexAttention", partial(_window, length)
    for samples, size in [(1, 8192), (32, 512)]:
        yield (
            f"complete, {samples} x {size}, time of that of SDPA",
            partial(_complete, samples, size),
        )
    yield "20 nodes, launches, CUDA graphs off and on", _launches
    if ANEMOI not in peers.absent("cuda"):
        yield (
            "attention against anemoi-models",
            partial(_attention, nodes, 32, bfloat16, [ANEMOI], 1.0),
        )
    name = (
        f"edges by head, {nodes // 10:,} nodes, 8 heads with 20 each, time of that of shared ones"
    )
    yield name, partial(_by_head, nodes // 10)
    for radius in (0, 1, 4, 16, 64, 256, 1024):
        yield f"crossover of triton and flex, radius {radius}", partial(_crossover, radius)
    for sizes in (1, 2, 4, 8):
        yield f"crossover of sdpa and flex, {sizes} lengths", partial(_lengths, sizes)


# Figures ----------------------------------------------------------------------------------------


def _attention(
    nodes: int, width: int, dtype: torch.dtype, names: list[str], wanted: float
) -> dict[str, Any]:
    work = Work(graphs.uniform(nodes, 16), nodes, 8, width, "cuda", dtype)
    builders = {name: peers.ON_CUDA[name] for name in (OURS, *names)}
    times = _both({name: make(work) for name, make in builders.items()}, work)
    return _against(times, wanted)


def _hub(nodes: int) -> dict[str, Any]:
    nodes = 1 << (nodes - 1).bit_length()
    calls = {}
    for name, edges in {
        "even": graphs.uniform(nodes, 16),
        "with a hub": graphs.power_law(nodes, 16, hub_share=1 / 16),
    }.items():
        calls[name] = peers.ours(Work(edges, nodes, 8, 16, "cuda"))
    times = _both(calls, Work(torch.empty(2, 0), nodes, 8, 16, "cuda"))
    ratio = times["with a hub"] / times["even"]
    return {"seconds": times, "edges of the hub": nodes, "ratio": ratio, "at most": 1.3}


def _bandwidth(nodes: int, dtype: torch.dtype) -> dict[str, Any]:
    work = Work(graphs.uniform(nodes, 16), nodes, 8, 64, "cuda", dtype)
    call, inputs = peers.ours(work), work.inputs("attention")
    source = torch.ones(2**28, device="cuda")
    sink = torch.empty_like(source)
    with torch.no_grad():
        times = _timed({"forward": lambda: call(*inputs), "copy": lambda: sink.copy_(source)})
    row = 8 * 64 * dtype.itemsize
    moved = 2 * nodes * 16 * row + 2 * nodes * row + 4 * nodes * 16
    copied = 2 * source.nbytes / times["copy"]
    share = moved / times["forward"] / copied
    return {"seconds": times, "copy, GB/s": copied / 1e9, "share": share, "at least": 0.6}


def _window(length: int) -> dict[str, Any]:
    edges = adjacency.window(length, 256).to("cuda")
    work = Work(torch.empty(2, 0), length, 8, 64, "cuda", torch.bfloat16)
    calls = {OURS: _on(edges, "auto"), FLEX: peers.flex_window(length, 256)}
    return _against(_both(calls, work), 1.0)


def _complete(samples: int, length: int) -> dict[str, Any]:
    edges = adjacency.complete([length] * samples).to("cuda")
    work = Work(torch.empty(2, 0), samples * length, 8, 64, "cuda", torch.bfloat16)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(0, (samples, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)

    times = _both({OURS: _on(edges, "auto"), SDPA: theirs}, work)
    return {"seconds": times, "ratio": times[OURS] / times[SDPA], "at most": 1.03}


def _launches() -> dict[str, Any]:
    """Forward and backward on 20 nodes, launched one by one and as one CUDA graph."""
    work = Work(graphs.uniform(20, 3), 20, 4, 16, "cuda")
    inputs = work.inputs("attention")
    gradient = torch.randn_like(inputs[0])
    eager = {name: peers.ON_CUDA[name](work) for name in (OURS, PYG)}
    steps = {name: _step(call, inputs, gradient) for name, call in eager.items()}
    times = _timed(steps)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            steps[OURS]()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        with torch.cuda.graph(graph):
            steps[OURS]()
        times |= _timed({"CUDA graph": graph.replay})
        refused = None
    except RuntimeError as error:
        refused = str(error)[:300]
    return {"seconds": times, "CUDA graph refused": refused}


def _by_head(nodes: int) -> dict[str, Any]:
    heads = [adjacency.from_edge_index(graphs.uniform(nodes, 20, seed), nodes) for seed in range(8)]
    edges = adjacency.HeadEdges.of(*heads).to("cuda")
    work = Work(graphs.uniform(nodes, 20), nodes, 8, 16, "cuda")
    times = _both({"shared": peers.ours(work), "by head": _on(edges, "auto")}, work)
    return {"seconds": times, "ratio": times["by head"] / times["shared"]}


def _crossover(radius: int) -> dict[str, Any]:
    from graphformer.ops import flex

    edges = adjacency.window(16_384, radius).to("cuda")
    work = Work(torch.empty(2, 0), 16_384, 8, 64, "cuda", torch.bfloat16)
    times = _both({name: _on(edges, name) for name in ("triton", "flex")}, work)
    return {"seconds": times, "fill of the blocks": flex.fill(edges.num_edges, edges)}


def _lengths(sizes: int) -> dict[str, Any]:
    edges = adjacency.causal([512 + 8 * (i % sizes) for i in range(32)]).to("cuda")
    work = Work(torch.empty(2, 0), edges.shape[0], 8, 64, "cuda", torch.bfloat16)
    return {"seconds": _both({name: _on(edges, name) for name in ("sdpa", "flex")}, work)}


# Timing -----------------------------------------------------------------------------------------


def _on(edges: adjacency.Adjacency, backend: Any) -> peers.Call:
    return lambda q, k, v: ops.attention(q, k, v, edges, backend=backend)


def _step(call: peers.Call, inputs: list[Tensor], gradient: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(call(*inputs), inputs, gradient)


def _both(calls: dict[str, peers.Call], work: Work) -> dict[str, float]:
    """Seconds of forward and backward."""
    inputs = work.inputs("attention")
    gradient = torch.randn_like(inputs[0])
    return _timed({name: _step(call, inputs, gradient) for name, call in calls.items()})


def _timed(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each step, in interleaved rounds of `SECONDS` together."""
    for step in steps.values():
        for _ in range(3):  # compiles and tunes kernels
            step()
    once = sum(_seconds(step) for step in steps.values())
    rounds = int(min(30, max(5, SECONDS / max(once, 1e-5))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(_seconds(step))
    return {name: sorted(values)[rounds // 2] for name, values in times.items()}


def _seconds(step: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def _against(times: dict[str, float], wanted: float) -> dict[str, Any]:
    """The ratio of the other's time to ours."""
    (other,) = (name for name in times if name != OURS)
    return {"seconds": times, "ratio": times[other] / times[OURS], "at least": wanted}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
