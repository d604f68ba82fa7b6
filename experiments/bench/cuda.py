"""Suites for a CUDA device, as in suites.py, with targets for one H100."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import graphformer as gf
from bench import graphs, peers, suites
from bench.cases import GIB, Case, Options, Target, compare
from bench.peers import (
    ANEMOI,
    COMPILED,
    FLEX,
    OURS,
    PLAIN,
    PYG,
    PYG_SCATTER,
    SEGMENT,
    TRITON,
    Work,
)
from bench.timing import check, forward_backward, interleaved, ratios
from graphformer.ops import flex

SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def attention(options: Options) -> Iterator[Case]:
    """Attention over a random graph in two precisions, against all peers."""
    nodes = 10_000 if options.quick else 100_000
    edges = graphs.uniform(nodes, 16)
    for dtype in SHORT:
        for width in (16, 32, 64):
            work = Work(edges, nodes, 8, width, "cuda", dtype)
            names = [OURS, PYG, PYG_SCATTER, PLAIN, SEGMENT, COMPILED, ANEMOI]
            name = f"{nodes:,} nodes, degree 16, 8 x {width}, {SHORT[dtype]}"
            case = compare(name, work, "attention", names, options)
            what = f"attention, {name}, against"
            scatter = [x for x in map(case.ratio, (SEGMENT, PYG_SCATTER)) if x is not None]
            case.targets = [
                Target(f"{what} PyG", 8.0, case.ratio(PYG)),
                Target(f"{what} torch-scatter's kernels", 2.0, min(scatter, default=None)),
                Target(f"{what} torch.compile of PyG's way", 2.0, case.ratio(COMPILED)),
                Target(f"{what} anemoi-models", 1.0, case.ratio(ANEMOI)),
            ]
            yield case


def additive(options: Options) -> Iterator[Case]:
    """Additive attention against the attention of GATConv on a CUDA device."""
    nodes = 10_000 if options.quick else 100_000
    work = Work(graphs.uniform(nodes, 16), nodes, 8, 16, "cuda")
    names = [OURS, PYG, PYG_SCATTER, PLAIN]
    yield compare(f"{nodes:,} nodes, degree 16, 8 x 16", work, "additive", names, options)


def hub(options: Options) -> Iterator[Case]:
    """A power-law graph with a hub of a sixteenth of all edges, against an even graph."""
    nodes, degree = (65_536 if options.quick else 1_048_576), 16
    inputs = Work(torch.empty(2, 0), nodes, 8, 16, "cuda").inputs("attention")
    gradient = torch.randn_like(inputs[0])
    steps = {}
    for name, edges in {
        "even": graphs.uniform(nodes, degree),
        "power law": graphs.power_law(nodes, degree),
        "power law with a hub": graphs.power_law(nodes, degree, hub_share=1 / 16),
    }.items():
        call = peers.ours(Work(edges, nodes, 8, 16, "cuda"))
        steps[name] = forward_backward(call, inputs, gradient)
    case = Case(f"{nodes:,} nodes, degree {degree}, 8 x 16", {"nodes": nodes, "edges": 16 * nodes})
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), "even")
    what = f"time on a power-law graph with a hub of {nodes:,} edges, of that on an even one"
    case.targets = [Target(what, 1.3, case.ratio("power law with a hub"), below=True)]
    yield case


def bandwidth(options: Options) -> Iterator[Case]:
    """Bytes per second of the forward pass, one gathered row per edge, relative to a large copy."""
    copy = _copied_a_second()
    nodes, degree, heads, width = (20_000 if options.quick else 100_000), 16, 8, 64
    for dtype in SHORT:
        work = Work(graphs.uniform(nodes, degree), nodes, heads, width, "cuda", dtype)
        call, inputs = peers.ours(work), work.inputs("attention")
        with torch.no_grad():
            seconds = _seconds(lambda call=call, inputs=inputs: call(*inputs))
        row = heads * width * dtype.itemsize
        moved = 2 * nodes * degree * row + 2 * nodes * row + 4 * nodes * degree
        share = 100 * moved / seconds / copy
        name = f"{nodes:,} nodes, degree {degree}, {heads} x {width}, {SHORT[dtype]}"
        case = Case(name, work.describe())
        case.facts = {"copy, GB/s": copy / 1e9, "forward, ms": 1e3 * seconds}
        what = f"forward, {name}, of the bandwidth of a copy"
        case.targets = [Target(what, 60, share, unit=" %")]
        yield case


def window(options: Options) -> Iterator[Case]:
    """A band against FlexAttention with a mask made for it."""
    length, radius = (4096 if options.quick else 32_768), 256
    case, _ = _band(length, radius, options, [OURS, FLEX])
    what = f"window, {case.name}, against FlexAttention"
    case.targets = [Target(what, 1.0, case.ratio(FLEX), note="1.0 is as fast")]
    yield case


def crossover(options: Options) -> Iterator[Case]:
    """Bands of growing width on each backend, for the thresholds of ops/select.py."""
    length = 4096 if options.quick else 16_384
    for radius in (0, 1, 4, 16, 64, 256, 1024):
        case, adjacency = _band(length, radius, options, [OURS, TRITON, FLEX])
        case.facts["fill of the blocks"] = flex.fill(adjacency.num_edges, adjacency)
        yield case


def lengths(options: Options) -> Iterator[Case]:
    """Ragged batches of growing numbers of lengths: one SDPA call per length, one of flex."""
    for sizes in (1, 2, 4, 8, 16):
        adjacency = gf.causal([512 + 8 * (i % sizes) for i in range(32)]).to("cuda")
        nodes = adjacency.shape[0]
        work = Work(torch.empty(2, 0), nodes, 8, 64, "cuda", torch.bfloat16)
        calls = {name: _on(adjacency, name) for name in ("sdpa", "flex")}
        yield _timed(Case(f"{sizes} lengths", {"nodes": nodes}), work, calls, "sdpa", options)


def memory(options: Options) -> Iterator[Case]:
    """Peak memory beyond inputs, outputs and gradients, relative to PyG."""
    nodes = 10_000 if options.quick else 100_000
    for width in (16, 64):
        work = Work(graphs.uniform(nodes, 16), nodes, 8, width, "cuda")
        case = Case(f"{nodes:,} nodes, degree 16, 8 x {width}", work.describe())
        missing = peers.absent("cuda")
        for peer in (OURS, PYG, PYG_SCATTER, PLAIN):
            if peer in missing:
                case.refused[peer] = missing[peer]
                continue
            case.peers[peer] = {"memory": _peak(peers.ATTENTION[peer](work), work)}
        over = {peer: entry["memory"]["over"] for peer, entry in case.peers.items()}
        what = f"peak memory over inputs and outputs, {case.name}, of PyG's"
        case.targets = [Target(what, 0.1, over[OURS] / over[PYG], below=True)]
        yield case


def large(options: Options) -> Iterator[Case]:
    """Ten million nodes and 160 million edges, forward and backward, on one device."""
    nodes, degree = (100_000 if options.quick else 10_000_000), 16
    generator = torch.Generator("cuda").manual_seed(0)
    edges = torch.randint(nodes, (2, nodes * degree), generator=generator, device="cuda")
    work = Work(edges, nodes, 4, 16, "cuda", torch.bfloat16)
    case = Case(f"{nodes:,} nodes, {nodes * degree:,} edges, 4 x 16, bfloat16", work.describe())
    start = time.perf_counter()
    call = peers.ours(work)
    torch.cuda.synchronize()
    case.facts["adjacency, s"] = time.perf_counter() - start
    del edges
    work.edge_index = torch.empty(2, 0, device="cuda")
    inputs = work.inputs("attention")
    gradient = torch.randn_like(inputs[0])
    torch.cuda.reset_peak_memory_stats()
    step = forward_backward(call, inputs, gradient)
    step()
    finite = all(bool(x.grad.isfinite().all()) for x in inputs)
    seconds = sorted(step()[1] for _ in range(5))[2]
    case.facts |= {"forward and backward, s": seconds, "gradients are finite": int(finite)}
    peak = torch.cuda.max_memory_allocated() / GIB
    what = f"{case.name}, forward and backward: peak memory"
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    case.targets = [Target(what, round(total, 1), peak, True, " GiB", f"{seconds:.3f} s")]
    yield case


def _band(length: int, radius: int, options: Options, names: list[str]) -> tuple[Case, Any]:
    """Time a band in bfloat16 with 8 heads of 64; return the case and the adjacency."""
    adjacency = gf.window(length, radius).to("cuda")
    work = Work(torch.empty(2, 0), length, 8, 64, "cuda", torch.bfloat16)
    every = {OURS: _on(adjacency, "auto"), TRITON: _on(adjacency, "triton")}
    every[FLEX] = peers.flex_window(length, radius)
    case = Case(f"length {length:,}, radius {radius}", {"length": length, "radius": radius})
    return _timed(case, work, {n: every[n] for n in names}, OURS, options), adjacency


def _timed(
    case: Case, work: Work, calls: dict[str, peers.Call], base: str, options: Options
) -> Case:
    inputs = work.inputs("attention")
    gradient = torch.randn_like(inputs[0])
    steps, expected = {}, None
    for name, call in calls.items():
        expected = check(call, inputs, gradient, expected)
        steps[name] = forward_backward(call, inputs, gradient)
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), base)
    return case


def _on(adjacency: gf.Adjacency, backend: Any) -> peers.Call:
    return lambda q, k, v: gf.attention(q, k, v, adjacency, backend=backend)


def _peak(call: peers.Call, work: Work) -> dict[str, int]:
    """Bytes of forward and backward beyond outputs and gradients."""
    inputs = work.inputs("attention")
    gradient = torch.ones_like(inputs[0])
    call(*inputs).backward(gradient)  # compiles and tunes kernels
    for x in inputs:
        x.grad = None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(*inputs).backward(gradient)
    grown = torch.cuda.max_memory_allocated() - before
    needed = gradient.nbytes + sum(x.nbytes for x in inputs)
    return {"grown": grown, "needed": needed, "over": max(grown - needed, 0)}


def _copied_a_second() -> float:
    """Bytes read and written per second by a large copy on the device."""
    source = torch.ones(2**28, device="cuda")
    sink = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: sink.copy_(source))


def _seconds(run: Callable[[], Any], rounds: int = 20) -> float:
    """The median time of a call on the device."""
    run()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[rounds // 2]


def complete(options: Options) -> Iterator[Case]:
    """The complete graph against `scaled_dot_product_attention` called directly, bfloat16."""
    for samples, length in [(1, 8192), (32, 512), (256, 128)]:
        adjacency = gf.complete([length] * samples).to("cuda")
        work = Work(torch.empty(2, 0), samples * length, 8, 64, "cuda", torch.bfloat16)

        def theirs(q: Tensor, k: Tensor, v: Tensor, samples: int = samples) -> Tensor:
            q, k, v = (x.unflatten(0, (samples, -1)).transpose(1, 2) for x in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)

        calls = {peers.SDPA: theirs, OURS: _on(adjacency, "auto")}
        case = Case(f"{samples} x {length} nodes, 8 x 64, bfloat16", work.describe())
        case = _timed(case, work, calls, peers.SDPA, options)
        what = f"complete, {case.name}, time of that of SDPA"
        case.targets = [Target(what, 1.03, case.ratio(OURS), below=True)]
        yield case


TARGETS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "attention": attention,
    "additive": additive,
    "hub": hub,
    "bandwidth": bandwidth,
    "window": window,
    "complete": complete,
    "memory": memory,
    "large": large,
}
SWEEPS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "crossover": crossover,
    "lengths": lengths,
    **{name: suites.SWEEPS[name] for name in ("nodes", "degree", "shape", "law")},
}
SUITES = TARGETS | SWEEPS
