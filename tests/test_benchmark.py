"""The benchmark on tiny graphs: its peers agree, wrong ones are refused, its files are written."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import benchmark  # noqa: E402
from bench import cases, cuda, graphs, memory, peers, report, suites, timing  # noqa: E402


def work(width: int = 5) -> peers.Work:
    return peers.Work(graphs.uniform(43, 7), 43, 3, width)


@pytest.mark.parametrize("make", graphs.LAWS.values())
def test_graphs_have_the_promised_edges(make):
    edges = make(101, 13)
    assert edges.shape == (2, 101 * 13)
    assert len(torch.unique(edges, dim=1).T) == 101 * 13
    assert torch.equal(make(101, 13), edges)
    assert not torch.equal(make(101, 13, seed=1), edges)


def test_a_hub_holds_its_share():
    edges = graphs.power_law(401, 17, hub_share=0.05)
    assert edges.shape[1] == 401 * 17
    assert (edges[1] == 0).sum() == round(0.05 * 401 * 17)
    with pytest.raises(ValueError, match="use more nodes"):
        graphs.power_law(11, 50, hub_share=0.5)


@pytest.mark.parametrize("kind", ["attention", "additive"])
def test_all_peers_compute_the_same(kind):
    builders = peers.ATTENTION if kind == "attention" else peers.ADDITIVE
    inputs = work().inputs(kind)
    gradient = torch.randn(43, 3, 5, generator=torch.Generator().manual_seed(3))
    expected = timing.check(builders[peers.PLAIN](work()), inputs, gradient, None)
    for peer, make in builders.items():
        if peer not in peers.absent():
            timing.check(make(work()), inputs, gradient, expected)


def test_pyg_calls_torch_scatter_in_its_row_only():
    pytest.importorskip("torch_scatter")
    assert list(suites.check_scatter_calls().values())[::2] == [0, 0]


def test_a_wrong_kernel_is_not_timed(monkeypatch):
    monkeypatch.setitem(
        peers.ATTENTION, peers.PYG, lambda work: lambda q, k, v: 1.01 * v + 0 * q * k
    )
    case = cases.compare("tiny", work(), "attention", [peers.OURS, peers.PYG, peers.PLAIN], QUICK)
    assert case.refused[peers.PYG].startswith("wrong: output differs by")
    assert set(case.peers) == {peers.OURS, peers.PLAIN}
    assert case.ratio(peers.PYG) is None


def test_an_absent_peer_is_named(monkeypatch):
    monkeypatch.setattr(peers, "HAS_SCATTER", False)
    case = cases.compare("tiny", work(), "attention", [peers.OURS, peers.SEGMENT], QUICK)
    assert case.refused == {peers.SEGMENT: "torch-scatter is not installed"}
    assert peers.absent("cuda")[peers.DGL]


QUICK = cases.Options(quick=True)


def tiny(options):
    names = [peers.OURS, peers.PLAIN]
    for count in (23, 41, 83):
        size = peers.Work(graphs.uniform(count, 5), count, 2, 3)
        case = cases.compare(f"{count} nodes", size, "attention", names, options)
        case.targets = [cases.Target("tiny", 1e9, case.ratio(peers.PLAIN), note="never")]
        case.facts = {"a fact": {"part": 0.25}}
        yield case


def test_a_run_writes_its_files_and_keeps_other_suites(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(suites.SUITES, "nodes", tiny)
    monkeypatch.setitem(suites.SUITES, "other", tiny)
    arguments = ["--quick", "--out", str(tmp_path), "--suite"]
    assert benchmark.main([*arguments, "nodes"]) == 1
    assert "never" in capsys.readouterr().err
    assert (tmp_path / "nodes.png").stat().st_size > 1000
    assert benchmark.main([*arguments, "other"]) == 1
    stored = json.loads((tmp_path / "results.json").read_text())
    assert set(stored["suites"]) == {"nodes", "other"}
    entry = stored["suites"]["nodes"][0]["peers"][peers.PLAIN]
    assert entry["both"]["q1"] <= entry["both"]["median"] <= entry["both"]["q3"]
    assert entry["rounds"] >= 2
    table = (tmp_path / "README.md").read_text()
    assert "| tiny | at least 1e+09x |" in table
    assert "| **no** | never |" in table
    assert "| nodes | graphformer | edges^" in table
    for peer in peers.absent():
        assert f"absent: **{peer}**" in table


def test_targets_are_met_or_not():
    assert cases.Target("w", 2.0, 2.5).met
    assert not cases.Target("w", 2.0, 1.5).met
    assert cases.Target("w", 2.0, 1.5, below=True).met
    assert cases.Target("w", 2.0, None).met is None
    assert report.target_line(cases.Target("w", 2.0, None))[2] == "not measured"


def test_the_command_line():
    options = benchmark.parse([])
    assert options.suite == list(suites.SUITES)
    assert options.out == EXPERIMENTS / "results" / "benchmark"
    assert benchmark.parse(["--quick", "--suite", "hub"]).out.name == "benchmark-quick"
    with pytest.raises(SystemExit):
        benchmark.parse(["--suite", "nothing"])


def test_cuda_without_a_device_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        benchmark.parse(["--device", "cuda"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_for_cuda(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = benchmark.parse(["--device", "cuda"])
    assert options.suite == list(cuda.SUITES)
    assert options.out == EXPERIMENTS / "results" / "benchmark-gpu"
    assert benchmark.parse(["--device", "cuda", "--quick"]).out.name == "benchmark-gpu-quick"
    with pytest.raises(SystemExit):
        benchmark.parse(["--device", "cuda", "--suite", "roofline"])
    assert "no suite roofline for --device cuda" in capsys.readouterr().err


def test_peers_on_cuda_compute_the_same():
    """In half precision, against the definition in float32."""
    size = work()
    assert set(peers.ON_CUDA) - set(peers.ATTENTION) == {peers.COMPILED, peers.ANEMOI}
    inputs = size.inputs("attention")
    expected = timing.check(peers.plain(size), inputs, torch.ones(43, 3, 5), None)
    half = dataclasses.replace(size, dtype=torch.bfloat16)
    gradient = torch.ones(43, 3, 5, dtype=torch.bfloat16)
    timing.check(peers.ours(half), half.inputs("attention"), gradient, expected)
    assert peers.absent("cuda")[peers.DGL]


@pytest.mark.slow
def test_peak_memory_of_a_process():
    job = {
        "task": "peer",
        "kind": "attention",
        "nodes": 2003,
        "degree": 20,
        "heads": 8,
        "width": 16,
    }
    over = {name: memory.peak({**job, "peer": name})["over"] for name in (peers.OURS, peers.PLAIN)}
    assert over[peers.PLAIN] > 2003 * 20 * 8 * 16 * 4 > over[peers.OURS]
    with pytest.raises(RuntimeError, match="KeyError"):
        memory.peak({**job, "peer": "nobody"})
