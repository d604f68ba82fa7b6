"""Encodings on disk: found by content, written whole, computed once by several processes."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch
from helpers.awkward import random_edges
from helpers.awkward_graphs import AWKWARD, graph

from graphformer.data.graph import encoding_cache
from graphformer.data.graph.encodings import (
    Degree,
    LaplacianEigenvectors,
    RandomWalk,
    ShortestPaths,
    add_encodings,
)
from graphformer.data.io.cache import cache_root

ENCODINGS = ["laplacian:3", "random_walk:4", "degree:5", "shortest_path:2"]


def test_a_second_call_reads_what_the_first_wrote(monkeypatch):
    graphs = list(AWKWARD.values())
    encoded = add_encodings(graphs, [*ENCODINGS, "virtual_node"])
    assert all("laplacian_pe" not in graph for graph in graphs), "the input is not changed"
    files = sorted((cache_root() / "encodings").iterdir())
    assert len(files) == 4

    def forbidden(*args):
        raise AssertionError("computed again")

    for encoding in (LaplacianEigenvectors, RandomWalk, Degree, ShortestPaths):
        monkeypatch.setattr(encoding, "fields", forbidden)
    again = add_encodings(graphs, [*ENCODINGS, "virtual_node"])
    for one, other in zip(encoded, again, strict=True):
        assert sorted(one.keys()) == sorted(other.keys())
        for name, value in one.to_dict().items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[name].dtype
                assert torch.equal(value, other[name]), name
    with pytest.raises(AssertionError, match="computed again"):
        add_encodings(graphs[1:], ENCODINGS)
    with pytest.raises(AssertionError, match="computed again"):
        add_encodings(graphs, ["laplacian:4"])


def test_the_key_depends_on_settings_sizes_and_edges():
    edges = AWKWARD["directed"].edge_index.numpy()
    keys = {
        encoding_cache._key(encoding, graphs)
        for encoding in (RandomWalk(3), RandomWalk(4), ShortestPaths(3), Degree())
        for graphs in ([(edges, 11)], [(edges, 13)], [(edges[::-1], 11)], [(edges, 11)] * 2)
    }
    assert len(keys) == 16


def test_a_damaged_file_is_computed_again():
    (encoded,) = add_encodings([AWKWARD["path"]], ["laplacian:3"])
    (file,) = (cache_root() / "encodings").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    (again,) = add_encodings([AWKWARD["path"]], ["laplacian:3"])
    assert torch.equal(encoded.laplacian_pe, again.laplacian_pe)
    assert len(list((cache_root() / "encodings").iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no file locks")
def test_of_two_at_once_one_computes_and_the_other_reads(monkeypatch):
    fields, calls = Degree.fields, []

    def slow(self, *graph):
        calls.append(threading.get_ident())
        entered.set()
        time.sleep(0.3)
        return fields(self, *graph)

    entered = threading.Event()
    monkeypatch.setattr(Degree, "fields", slow)
    first = threading.Thread(target=add_encodings, args=([AWKWARD["path"]], ["degree:3"]))
    first.start()
    assert entered.wait(60)
    (second,) = add_encodings([AWKWARD["path"]], ["degree:3"])
    first.join()
    assert len(calls) == 1
    assert "in_degree" in second


def test_a_failed_write_leaves_no_file(monkeypatch):
    def fail(*args):
        raise OSError("disk is full")

    monkeypatch.setattr(encoding_cache, "save_file", fail)
    with pytest.raises(OSError, match="disk is full"):
        add_encodings([AWKWARD["path"]], ["degree:3"])
    assert not list((cache_root() / "encodings").iterdir())


def test_slow_encodings_go_on_in_other_workers(monkeypatch):
    monkeypatch.setattr(encoding_cache, "_MAX_SERIAL_SECONDS", 0.0)
    graphs = [graph(7, random_edges(7, 7, 11, seed)) for seed in range(13)]
    encoded = add_encodings(graphs, ["degree:3"], num_workers=1)
    for one, data in zip(encoded, graphs, strict=True):
        assert torch.equal(one.in_degree, Degree()(data).in_degree)


@pytest.mark.slow
def test_many_graphs_are_computed_by_several_processes(monkeypatch):
    monkeypatch.setattr(encoding_cache, "_MAX_SERIAL_SECONDS", 1e-6)
    graphs = [graph(7, random_edges(7, 7, 11, seed)) for seed in range(53)]
    encoded = add_encodings(graphs, ["laplacian:3"], num_workers=2)
    for one, data in zip(encoded, graphs, strict=True):
        assert torch.equal(one.laplacian_pe, LaplacianEigenvectors(3)(data).laplacian_pe)
