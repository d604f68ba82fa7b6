"""Suites for a CPU: functions that yield cases, some of which have targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import graphformer as gf
from bench import graphs, memory, peers
from bench.cases import GIB, Case, Options, Target, compare
from bench.generation import decoding, prefill
from bench.molecules import molecules
from bench.overheads import by_head, compiled, masks, start
from bench.peers import DGL, MASK, OURS, PLAIN, PYG, PYG_SCATTER, SDPA, SEGMENT, Work
from bench.small import small
from bench.timing import check, forward_backward, interleaved, ratios


def check_scatter_calls() -> dict[str, int]:
    """Return the calls of torch-scatter by PyG in its two rows.

    Raises:
        RuntimeError: when the row with torch-scatter does not call it, or the other one does.
    """
    work = Work(graphs.uniform(101, 5), 101, 4, 8)
    calls = {}
    for kind, builders in (("attention", peers.ATTENTION), ("additive", peers.ADDITIVE)):
        for name in (PYG, PYG_SCATTER):
            call = builders[name](work)
            calls[f"{kind}, {name}"] = peers.scatter_calls(call, work.inputs(kind))
    if [bool(count) for count in calls.values()] != [False, True] * 2:
        raise RuntimeError(
            f"PyG: got calls of segment_csr {calls}, expected them with torch-scatter"
        )
    return calls


# The table of targets ---------------------------------------------------------------------------

EVERYONE = [OURS, PYG, PYG_SCATTER, PLAIN, SEGMENT, DGL]


def attention(options: Options) -> Iterator[Case]:
    """Attention over random graphs, against all peers."""
    rows = [(4000, 16, 12.0), (4000, 64, 20.0), (20000, 16, 8.0)]
    for nodes, width, wanted in rows:
        work = Work(graphs.uniform(nodes, 20), nodes, 8, width, options.device)
        work.edge_index = work.edge_index.to(options.device)
        names = EVERYONE + ([MASK] if nodes <= 4000 and not options.quick else [])
        case = compare(
            f"{nodes:,} nodes, degree 20, 8 x {width}", work, "attention", names, options
        )
        what = f"attention, {case.name}, against"
        case.targets = [
            Target(f"{what} PyG without torch-scatter", wanted, case.ratio(PYG)),
            Target(f"{what} PyG with torch-scatter", 6.0, case.ratio(PYG_SCATTER)),
            Target(f"{what} DGL", 4.0, case.ratio(DGL)),
        ]
        yield case


def additive(options: Options) -> Iterator[Case]:
    """Additive attention against the attention of GATConv."""
    for nodes, width in [(4000, 16), (20000, 16)]:
        edges = graphs.uniform(nodes, 20).to(options.device)
        work = Work(edges, nodes, 8, width, options.device)
        names = [OURS, PYG, PYG_SCATTER, PLAIN, DGL]
        case = compare(f"{nodes:,} nodes, degree 20, 8 x {width}", work, "additive", names, options)
        what = f"additive attention, {case.name}, against GATConv's core"
        case.targets = [Target(what, 8.0, case.ratio(PYG))]
        yield case


def hub(options: Options) -> Iterator[Case]:
    """A power-law graph with a hub of 5 % of all edges, against an even graph."""
    nodes, degree = 40000, 16
    inputs = Work(torch.empty(2, 0), nodes, 8, 16, options.device).inputs("attention")
    gradient = torch.randn_like(inputs[0])
    steps = {}
    for name, edges in {
        "even": graphs.uniform(nodes, degree),
        "power law": graphs.power_law(nodes, degree),
        "power law with a hub": graphs.power_law(nodes, degree, hub_share=0.05),
    }.items():
        call = peers.ours(Work(edges.to(options.device), nodes, 8, 16, options.device))
        steps[name] = forward_backward(call, inputs, gradient)
    case = Case(
        f"{nodes:,} nodes, degree {degree}, 8 x 16", {"nodes": nodes, "edges": nodes * degree}
    )
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), "even")
    measured = case.ratio("power law with a hub")
    what = "time on a power-law graph with a hub of 5 % of the edges, of that on an even one"
    case.targets = [Target(what, 1.3, measured, below=True)]
    yield case


def accelerate(options: Options) -> Iterator[Case]:
    """Whole training steps of PyG's 2-layer GAT on real graphs."""
    from bench import training
    from graphformer.data.io.cache import MissingDataError

    for name, wanted in [("Cora", 1.5), ("tolokers", 6.0)]:
        what = f"accelerate, training step of a 2-layer GAT on {name}, against PyG"
        try:
            steps, work = training.steps(name)
        except MissingDataError as error:
            yield Case(name, {}, refused={name: str(error)}, targets=[Target(what, wanted, None)])
            continue
        case = Case(name, work)
        if peers.PYG_SCATTER not in steps:
            case.refused[PYG_SCATTER] = peers.absent()[PYG_SCATTER]
        case.peers = ratios(interleaved(steps, 2 * options.seconds, **options.rounds), OURS)
        seconds = {peer: entry["both"]["median"] for peer, entry in case.peers.items()}
        shares = {p: 1 - seconds[f"{p}, no edges"] / seconds[p] for p in (PYG, OURS)}
        case.facts["share of the step that is attention"] = shares
        note = f"attention is {shares[PYG]:.0%} of PyG's step and {shares[OURS]:.0%} of ours"
        case.targets = [Target(what, wanted, case.ratio(PYG), note=note)]
        yield case


def peak_memory(options: Options) -> Iterator[Case]:
    """Peak memory beyond inputs and outputs, each peer in its own process."""
    for nodes, width in [(4000, 64), (20000, 16)]:
        job = {"task": "peer", "kind": "attention", "nodes": nodes, "degree": 20, "heads": 8,
               "width": width}  # fmt: skip
        case = Case(f"{nodes:,} nodes, degree 20, 8 x {width}", dict(job))
        missing = peers.absent()
        names = EVERYONE + ([MASK] if nodes <= 4000 else [])
        for peer in names:
            if peer in missing:
                case.refused[peer] = missing[peer]
                continue
            case.peers[peer] = {"memory": memory.peak({**job, "peer": peer})}
        over = {peer: entry["memory"]["over"] for peer, entry in case.peers.items()}
        what = f"peak memory over inputs and outputs, {case.name}, of PyG's"
        share = over[OURS] / over[PYG]
        case.targets = [Target(what, 0.1, share, below=True)]
        yield case


def window(options: Options) -> Iterator[Case]:
    """A band of radius 64 against SDPA with a mask, and twice the length."""
    length, heads, width, radius = 8192, 4, 32, 64
    steps, expected = {}, None
    case = Case(f"length {length:,}, radius {radius}", {"heads": heads, "width": width})
    inputs = Work(torch.empty(2, 0), length, heads, width, options.device).inputs("attention")
    gradient = torch.randn_like(inputs[0])
    for name, call in {
        OURS: _ours_window(length, radius, options.device),
        MASK: _masked_window(length, radius, options.device),
    }.items():
        expected = check(call, inputs, gradient, expected)
        steps[name] = forward_backward(call, inputs, gradient)
    longer = Work(torch.empty(2, 0), 2 * length, heads, width, options.device).inputs("attention")
    steps["twice the length"] = forward_backward(
        _ours_window(2 * length, radius, options.device), longer, torch.randn_like(longer[0])
    )
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    case.targets = [
        Target(f"window, {case.name}, against SDPA with the mask", 15.0, case.ratio(MASK)),
        Target("window, twice the length, of the time", 2.2, case.ratio("twice the length"), True),
    ]
    yield case


def complete(options: Options) -> Iterator[Case]:
    """The complete graph against `scaled_dot_product_attention` called directly."""
    for samples, length, heads, width in [(1, 1024, 8, 64), (8, 256, 8, 64), (32, 128, 4, 32)]:
        nodes = samples * length
        adjacency = gf.complete([length] * samples)

        def ours(q: Tensor, k: Tensor, v: Tensor, adjacency: Any = adjacency) -> Tensor:
            return gf.attention(q, k, v, adjacency)

        def theirs(q: Tensor, k: Tensor, v: Tensor, samples: int = samples) -> Tensor:
            q, k, v = (x.unflatten(0, (samples, -1)).transpose(1, 2) for x in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)

        inputs = Work(torch.empty(2, 0), nodes, heads, width, options.device).inputs("attention")
        gradient = torch.randn_like(inputs[0])
        check(ours, inputs, gradient, check(theirs, inputs, gradient, None))
        steps = {
            OURS: forward_backward(ours, inputs, gradient),
            SDPA: forward_backward(theirs, inputs, gradient),
        }
        case = Case(f"{samples} x {length} nodes, {heads} x {width}", {"nodes": nodes})
        rounds = {name: 4 * number for name, number in options.rounds.items()}
        case.peers = ratios(interleaved(steps, options.seconds, **rounds), SDPA)
        what = f"complete, {case.name}, time of that of SDPA"
        case.targets = [Target(what, 1.03, case.ratio(OURS), below=True)]
        yield case


def million(options: Options) -> Iterator[Case]:
    """A million nodes and 16 million edges, forward and backward, in its own process."""
    nodes, degree, heads, width = (100_000 if options.quick else 1_000_000), 16, 4, 16
    job = {"task": "million", "nodes": nodes, "degree": degree, "heads": heads, "width": width}
    found = memory.peak(job)
    case = Case(f"{nodes:,} nodes, {nodes * degree:,} edges, {heads} x {width}", job, facts=found)
    tensor = nodes * degree * heads * width * 4 / GIB
    case.refused[PYG] = f"not run: it allocates several E x H x D tensors of {tensor:.1f} GiB"
    what = f"{case.name}, forward and backward: peak memory of the process"
    note = f"{found['seconds']:.2f} s; the adjacency takes {found['adjacency']:.2f} s once"
    case.targets = [Target(what, 6.0, found["peak"] / GIB, below=True, unit=" GiB", note=note)]
    yield case


def roofline(options: Options) -> Iterator[Case]:
    """Bytes that the passes move without a cache, relative to the machine's bandwidth."""
    copy = _copy_bandwidth()
    cases = [(4000, 20, 8, 16), (20000, 20, 8, 16), (20000, 20, 8, 64), (100000, 16, 8, 16)]
    for nodes, degree, heads, width in cases[: 2 if options.quick else None]:
        work = Work(graphs.uniform(nodes, degree), nodes, heads, width, options.device)
        gather = _gather_bandwidth(work)
        inputs = work.inputs("attention")
        step = forward_backward(peers.ours(work), inputs, torch.randn_like(inputs[0]))
        times = interleaved({OURS: step}, options.seconds / 4, **options.rounds)
        case = Case(f"{nodes:,} nodes, degree {degree}, {heads} x {width}", work.describe())
        case.peers = ratios(times, OURS)
        edges, row = nodes * degree, heads * width * 4
        forward = 2 * edges * row + 2 * nodes * row + 4 * edges
        backward = 4 * edges * row + 8 * nodes * row + 12 * edges
        seconds = {key: case.peers[OURS][key]["median"] for key in ("forward", "both")}
        case.facts = {
            "copy bandwidth, GB/s": copy / 1e9,
            "gather bandwidth, GB/s": gather / 1e9,
            "bytes forward": forward,
            "bytes backward": backward,
            "fraction of gather bandwidth, forward": forward / seconds["forward"] / gather,
            "fraction of gather bandwidth, both": (forward + backward) / seconds["both"] / gather,
        }
        yield case


# Sweeps -----------------------------------------------------------------------------------------


def nodes(options: Options) -> Iterator[Case]:
    """Growing numbers of nodes of degree 16."""
    counts = [1000, 4000, 16000, 64000, 250_000, 1_000_000]
    for count in counts[: 3 if options.quick else None]:
        work = Work(graphs.uniform(count, 16), count, 4, 16, options.device)
        names = EVERYONE if count <= 64000 else [OURS, DGL] if count <= 250_000 else [OURS]
        yield compare(f"{count:,} nodes", work, "attention", names, _brief(options))


def degree(options: Options) -> Iterator[Case]:
    """10,000 nodes with growing numbers of edges."""
    degrees = [4, 16, 64, 256]
    for count in degrees[: 3 if options.quick else None]:
        work = Work(graphs.uniform(10000, count), 10000, 4, 16, options.device)
        names = EVERYONE if count <= 64 else [OURS, DGL]
        yield compare(f"degree {count}", work, "attention", names, _brief(options))


def shape(options: Options) -> Iterator[Case]:
    """Numbers of heads and widths, on 4,000 nodes of degree 20."""
    shapes = [(1, 16), (1, 128), (4, 32), (8, 8), (8, 64), (16, 16), (5, 13)]
    for heads, width in shapes[: 3 if options.quick else None]:
        work = Work(graphs.uniform(4000, 20), 4000, heads, width, options.device)
        yield compare(f"{heads} x {width}", work, "attention", EVERYONE, _brief(options))


def law(options: Options) -> Iterator[Case]:
    """Power-law and even degrees."""
    for name, make in graphs.LAWS.items():
        work = Work(make(20000, 16), 20000, 8, 16, options.device)
        yield compare(name, work, "attention", EVERYONE, _brief(options))


def length(options: Options) -> Iterator[Case]:
    """A window of radius 64 on sequences of growing length, against a mask up to 8,192."""
    heads, width, radius = 4, 32, 64
    for size in [2**n for n in range(9, 13 if options.quick else 17)]:
        inputs = Work(torch.empty(2, 0), size, heads, width, options.device).inputs("attention")
        gradient = torch.randn_like(inputs[0])
        calls = {OURS: _ours_window(size, radius, options.device)}
        case = Case(f"length {size:,}", {"length": size, "radius": radius})
        if size <= 8192:
            calls[MASK] = _masked_window(size, radius, options.device)
        else:
            case.refused[MASK] = "not run: its mask and time grow with the square of the length"
        steps, expected = {}, None
        for name, call in calls.items():
            expected = check(call, inputs, gradient, expected)
            steps[name] = forward_backward(call, inputs, gradient)
        brief = _brief(options)
        case.peers = ratios(interleaved(steps, brief.seconds, **brief.rounds), OURS)
        yield case


TARGETS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "attention": attention,
    "additive": additive,
    "hub": hub,
    "accelerate": accelerate,
    "memory": peak_memory,
    "window": window,
    "complete": complete,
    "million": million,
    "roofline": roofline,
    "small": small,
    "by-head": by_head,
    "compiled": compiled,
    "molecules": molecules,
    "decoding": decoding,
    "prefill": prefill,
    "start": start,
    "masks": masks,
}
SWEEPS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "nodes": nodes,
    "degree": degree,
    "shape": shape,
    "law": law,
    "length": length,
}
SUITES = TARGETS | SWEEPS


@dataclass
class _Brief(Options):
    @property
    def seconds(self) -> float:
        return 1.0 if self.quick else 6.0

    @property
    def rounds(self) -> dict[str, int]:
        return {"most": 5, "least": 2} if self.quick else {"most": 15, "least": 3}


def _brief(options: Options) -> Options:
    return _Brief(options.quick, options.device)


def _ours_window(length: int, radius: int, device: str) -> peers.Call:
    adjacency = gf.window(length, radius).to(device)
    return lambda q, k, v: gf.attention(q, k, v, adjacency)


def _masked_window(length: int, radius: int, device: str) -> peers.Call:
    position = torch.arange(length, device=device)
    mask = (position.unsqueeze(1) - position).abs() <= radius

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1)

    return call


def _copy_bandwidth() -> float:
    """Bytes read and written per second by a large copy."""
    source = torch.ones(2**26)
    sink = torch.empty_like(source)
    return 2 * source.nbytes / _median_seconds(lambda: sink.copy_(source))


def _gather_bandwidth(work: Work) -> float:
    """Bytes read per second when torch sums the feature rows of each target's sources."""
    csr = gf.from_edge_index(work.edge_index, work.nodes)
    table = torch.randn(work.nodes, work.heads * work.width)
    indices, starts = csr.indices.long(), csr.indptr[:-1].long()
    seconds = _median_seconds(lambda: F.embedding_bag(indices, table, starts, mode="sum"))
    return len(indices) * table.shape[1] * 4 / seconds


def _median_seconds(run: Callable[[], Any], rounds: int = 7) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]
