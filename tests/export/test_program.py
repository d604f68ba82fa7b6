"""Programs of torch.export against the model, for other numbers of nodes and edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.exported import exported, graph, text, text_model

from graphformer import models, patterns
from graphformer.data import pack_tokens
from graphformer.export import export_model, save_program

INPUTS = {
    "edges": ["x", "edge_index", "edge_attr"],
    "nodes": ["x"],
    "fixed": ["image"],
}


@pytest.mark.parametrize("name", INPUTS)
def test_programs_equal_the_model(name: str, tmp_path: Path) -> None:
    network, made, samples = exported(name)
    assert list(made.example) == INPUTS[name]
    save_program(made, tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    operators = {str(node.target) for node in made.program.graph.nodes}
    assert not [operator for operator in operators if "graphformer" in operator]
    for sample in samples:
        with torch.no_grad():
            expected = network(sample, made.adjacency(sample))
        found = program(*made.inputs(sample).values())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_edges_is_free() -> None:
    _, made, (sample, _) = exported("edges")
    inputs = made.inputs(sample)
    order = torch.randperm(inputs["edge_index"].shape[1])
    shuffled = {
        "x": inputs["x"],
        "edge_index": inputs["edge_index"][:, order],
        "edge_attr": inputs["edge_attr"][order],
    }
    program = made.program.module()
    torch.testing.assert_close(program(*shuffled.values()), program(*inputs.values()))


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(ValueError, match="batch: got 2 samples, expected one"):
        export_model(text_model(), patterns.Complete(), pack_tokens([[1, 2], [3]]), form="nodes")
    pair = text(3)
    pair.source, pair.source_lengths = pair.x, (3,)
    with pytest.raises(ValueError, match="batch: got the source of an encoder-decoder"):
        export_model(text_model(), patterns.Complete(), pair, form="nodes")
    unions = models.graph_transformer(5, 7, dim=6, depth=1, num_heads=2, num_union_parts=2)
    with torch.no_grad():
        for parameter in unions.parameters():
            parameter.normal_()
    both = patterns.Edges() | patterns.SelfLoops()
    with pytest.raises(ValueError, match="network: got another output from the form 'edges'"):
        export_model(unions, both, graph(7, 0))
    _, made, _ = exported("fixed")
    with pytest.raises(ValueError, match=r"path: got a.txt, expected a name that ends in .pt2"):
        save_program(made, "a.txt")
