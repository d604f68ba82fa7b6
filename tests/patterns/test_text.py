"""Documents, prefixes, and K-BERT's visible matrix from documents and edges."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch_geometric.data import Data

from graphformer.adjacency.prefix import Prefix as PrefixRule
from graphformer.patterns import Causal, Complete, Documents, Edges, Prefix, Window


@pytest.fixture
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "knowledge_text.py"
    spec = importlib.util.spec_from_file_location("knowledge_text", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_attend_within_themselves() -> None:
    batch = Data(x=torch.zeros(11), lengths=(7, 4), documents=(2, 5, 4))
    document = torch.tensor([0] * 2 + [1] * 5 + [2] * 4)
    same = document.unsqueeze(1) == document
    assert torch.equal(Documents()(batch).to_mask(), same)
    positions = torch.arange(11)
    before = positions.unsqueeze(1) >= positions
    assert torch.equal((Causal() & Documents())(batch).to_mask(), same & before)
    near = (positions.unsqueeze(1) - positions).abs() <= 1
    assert torch.equal((Window(1) & Documents())(batch).to_mask(), same & near)
    with pytest.raises(ValueError, match=r"batch\.documents: got None, .* Documents"):
        Documents()(Data(x=torch.zeros(3), lengths=(3,)))


def test_only_its_word_attends_to_a_fact(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = example.knowledge_batch(["a", "b", "c"], {1: ["x y", "z"]}, {})
    mask = (Documents() | Edges(undirected=True))(batch).to_mask()
    assert mask.int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 0, 1, 1, 0],
        [0, 1, 0, 1, 1, 0],
        [0, 1, 0, 0, 0, 1],
    ]
    assert batch.pos.tolist() == [0, 1, 2, 2, 3, 2]
    example.main()
    assert "changing the last fact affects: Beijing, is, a, city" in capsys.readouterr().out


def test_prefix() -> None:
    batch = Data(lengths=(5, 3), prefix_lengths=torch.tensor([2, 3]), num_nodes=8)
    adjacency = Prefix()(batch)
    assert adjacency == PrefixRule(((5, 2), (3, 3)))
    assert adjacency is Prefix()(batch)
    causal, complete = Causal()(batch), Complete()(batch)
    assert causal.num_edges < adjacency.num_edges < complete.num_edges
    with pytest.raises(ValueError, match=r"batch\.prefix_lengths: got None, .* Prefix"):
        Prefix()(Data(lengths=(5, 3), num_nodes=8))
    with pytest.raises(ValueError, match="got 1 lengths, expected 2"):
        Prefix()(Data(lengths=(5, 3), prefix_lengths=(1,), num_nodes=8))
