"""The builders: shapes, learning, and a packed batch as its samples."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers.awkward import random_edges
from torch.nn import functional as F
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models
from graphformer.nn import weight_std

LENGTHS = (5, 7, 3)


def text(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(11, (sum(lengths),), generator=generator)
    pos = torch.cat([torch.arange(n) for n in lengths])
    return Data(x=x, pos=pos, lengths=lengths, num_nodes=len(x))


def images():
    shapes = [(2, 3), (1, 5), (2, 2)]
    cells = [[(r, c) for r in range(h) for c in range(w)] for h, w in shapes]
    pos = torch.tensor([cell for image in cells for cell in image])
    x = torch.randn(15, 13, generator=torch.Generator().manual_seed(3))
    lengths = tuple(h * w for h, w in shapes)
    return Data(x=x, pos=pos, shapes=shapes, lengths=lengths, num_nodes=15)


def graphs():
    x = torch.randn(15, 13, generator=torch.Generator().manual_seed(3))
    return Data(x=x, lengths=LENGTHS, num_nodes=15)


EDGES = gf.batch([gf.from_edge_index(random_edges(n, n, 8), n) for n in LENGTHS])
BUILD = {
    "language": (
        lambda: models.language_model(11, dim=12, depth=2, num_heads=3),
        text,
        gf.causal(LENGTHS),
        (15, 11),
    ),
    "language-sines": (
        lambda: models.language_model(
            11, dim=12, depth=2, num_heads=3, positions="sinusoidal", tied=False
        ),
        text,
        gf.complete(LENGTHS),
        (15, 11),
    ),
    "vit": (
        lambda: models.vit(7, 12, 2, 3, channels=13, patch_size=1),
        images,
        gf.complete([6, 5, 4]),
        (3, 7),
    ),
    "vit-sines": (
        lambda: models.vit(7, 12, 2, 3, channels=13, patch_size=1, positions="sincos"),
        images,
        gf.grid([(2, 3), (1, 5), (2, 2)]),
        (3, 7),
    ),
    "nodes": (lambda: models.graph_transformer(13, 7, 12, 2, 3), graphs, EDGES, (15, 7)),
    "graphs": (lambda: models.graph_transformer(13, 7, 12, pool="mean"), graphs, EDGES, (3, 7)),
    "gat": (lambda: models.gat(13, 7), graphs, EDGES.with_self_loops(), (15, 7)),
    "gatv2": (lambda: models.gat(13, 7, v2=True, out_heads=3), graphs, EDGES, (15, 7)),
    "gat-one-layer": (lambda: models.gat(13, 7, depth=1), graphs, EDGES, (15, 7)),
}


@pytest.mark.parametrize("name", BUILD)
def test_shapes_and_learning(name):
    build, batch, adjacency, shape = BUILD[name]
    torch.manual_seed(5)
    model, batch = build().eval(), batch()
    labels = torch.arange(shape[0]) % shape[1]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(3):
        logits = model(batch, adjacency)
        assert logits.shape == shape
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("rule", [gf.causal, gf.complete])
def test_a_packed_batch_is_its_samples(rule):
    model = models.language_model(11, dim=12, depth=2, num_heads=3).double().eval()
    torch.manual_seed(5)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    batch = text()
    alone = [
        model(Data(x=x, pos=pos, lengths=(len(x),), num_nodes=len(x)), rule(len(x)))
        for x, pos in zip(batch.x.split(LENGTHS), batch.pos.split(LENGTHS), strict=True)
    ]
    torch.testing.assert_close(model(batch, rule(LENGTHS)), torch.cat(alone))


def test_a_causal_model_does_not_see_ahead():
    model, batch = models.language_model(11, dim=12, depth=2, num_heads=3).eval(), text((7,))
    before = model(batch, gf.causal(7))
    batch.x[4] = (batch.x[4] + 1) % 11
    after = model(batch, gf.causal(7))
    torch.testing.assert_close(before[:4], after[:4], rtol=0, atol=1e-6)
    assert not torch.allclose(before[4:], after[4:], rtol=0, atol=1e-6)


def test_tied_weights_are_one():
    model = models.language_model(11, dim=12)
    assert model.head.linear.weight is model.embedding.features.weight
    untied = models.language_model(11, dim=12, tied=False)
    assert untied.head.linear.weight is not untied.embedding.features.weight


def test_what_joins_the_residual_stream_starts_smaller():
    model = models.text_classifier(13, 7, dim=64, depth=8)
    for block in model.transformer.blocks:
        for weight in (block.attention.out.weight, block.mlp[3].weight):
            assert abs(weight.std().item() - weight_std(64) / 4) < 1e-3
        assert abs(block.mlp[0].weight.std().item() - weight_std(64)) < 3e-3


def test_weights_of_graph_models_start_narrow():
    model = models.graph_transformer(13, 7, 64, depth=8)
    for block in model.transformer.blocks:
        assert abs(block.mlp[0].weight.std().item() - 0.02) < 1e-3


def test_misspelt_options_are_refused():
    model, batch = models.language_model(11, dim=12, depth=2, num_heads=3), text()
    with pytest.raises(TypeError, match=r"unexpected option 'edge_weigth': did you mean 'edge_w"):
        model(batch, gf.causal(LENGTHS), edge_weigth=None)
    with pytest.raises(TypeError, match=r"unexpected option 'temperatur': did you mean 'temper"):
        model.generate([1, 2], max_new_tokens=1, temperatur=0)


@pytest.mark.parametrize(
    "adjacency",
    [gf.patterns.Causal(), gf.causal(LENGTHS).edge_index, [gf.patterns.Causal()] * 2],
    ids=["pattern", "edge_index", "per-block"],
)
def test_forms_of_an_adjacency(adjacency):
    model, batch = models.language_model(11, dim=12, depth=2, num_heads=3).eval(), text()
    torch.testing.assert_close(model(batch, adjacency), model(batch, gf.causal(LENGTHS)))


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_keep_all_attributes(duplicate):
    model = models.language_model(11, dim=12, depth=1, num_heads=3)
    model = model.with_adjacency(gf.patterns.Window(1))
    model.exporter, model.prompt, model.generation_config = export, "a", {"eos_token_id": 5}
    twin = duplicate(model)
    assert (twin.exporter, twin.prompt) == (export, "a")
    assert twin.generation_config == {"eos_token_id": 5}
    assert twin.adjacency == gf.patterns.Window(1)
    torch.testing.assert_close(twin(text()), model(text()))


def export(model, path):
    (path / "model.txt").write_text(type(model).__name__)


def test_the_exporter_saves_the_model(tmp_path):
    model = models.language_model(11, dim=12, depth=1, num_heads=3)
    with pytest.raises(ValueError, match="save_pretrained: got a model that is not from a check"):
        model.save_pretrained(tmp_path)
    model.exporter = export
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.txt").read_text() == "Model"


def test_old_names_of_attributes():
    model = models.language_model(11, dim=12, depth=1, num_heads=3)
    for old, new in {
        "fresh": "newly_initialized", "files": "extra_files", "defaults": "generation_config"
    }.items():  # fmt: skip
        with pytest.warns(FutureWarning, match=f"{old} is now called Model.{new}"):
            assert getattr(model, old) is getattr(model, new)
