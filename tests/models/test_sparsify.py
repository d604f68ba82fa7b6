"""Learned adjacencies carry the share that was asked for, with the fewest edges."""

from __future__ import annotations

import pytest
import torch

from graphformer import models
from graphformer.data.batch import Batch, pack_tokens
from graphformer.models.sparsify import attention_kept, learn_adjacency
from graphformer.patterns import Complete, FixedEdges, Offsets, PerHead, PerLayer, Window

HEADS, DEPTH = 3, 2


def batch(*lengths: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return pack_tokens(torch.randint(11, (sum(lengths),), generator=generator).split(lengths))


@pytest.fixture(scope="module")
def model() -> models.Model:
    torch.manual_seed(0)
    model = models.language_model(11, dim=12, depth=DEPTH, num_heads=HEADS, positions="rotary")
    with torch.no_grad():  # sharper than at random
        for block in model.transformer.blocks:
            block.attention.qkv.weight.mul_(5)
    return model.with_adjacency(Complete()).eval()


def dense_attention(model: models.Model, one: Batch) -> torch.Tensor:
    """The weights of every layer and head, [layers, H, N, N], by softmax over each sample."""
    found = []
    x = model.embedding(one)
    adjacency = Complete()(one)
    mask = adjacency.to_mask()
    for block in model.transformer.blocks:
        attention = block.attention
        q, k, _ = attention._queries_keys_and_values(
            block.norm1(x), model.transformer.position_encoding(one.pos, adjacency)["rotary"]
        )
        logits = torch.einsum("ihd,jhd->hij", q, k) * attention.head_dim**-0.5
        found.append(logits.masked_fill(~mask, -torch.inf).softmax(-1))
        x = block(x, adjacency, **model.transformer.position_encoding(one.pos, adjacency))
    return torch.stack(found).detach()


@pytest.mark.parametrize("per", ["model", "layer", "head"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_share_is_kept(model, per, share):
    sample = [batch(13, 7, 2), batch(5, 11, seed=1)]
    pattern = learn_adjacency(model, sample, share=share, per=per)
    kept = torch.zeros(DEPTH, HEADS)
    total = torch.zeros(DEPTH, HEADS)
    for one in sample:
        weights = dense_attention(model, one)
        made = pattern(one) if per != "model" else [pattern(one)] * DEPTH
        for layer, edges in enumerate(made):
            source, target = edges.edge_index
            heads = edges.heads if per == "head" else torch.ones(len(source), HEADS)
            kept[layer] += (weights[layer][:, target, source].T * heads).sum(0)
        total += weights.sum((-2, -1))
    shares = {"model": kept.sum() / total.sum(), "layer": kept.sum(1) / total.sum(1)}
    assert (shares.get(per, kept / total) >= share - 1e-5).all()
    torch.testing.assert_close(attention_kept(model, sample, pattern), kept / total)


def test_a_smaller_share_needs_fewer_edges(model):
    sample = [batch(13, 7)]
    edges = [
        learn_adjacency(model, sample, share=share, per="model")(sample[0]).num_edges
        for share in (0.3, 0.6, 0.9, 1.0)
    ]
    assert edges == sorted(edges)
    assert edges[0] < edges[1] < edges[2] < edges[3] == 13**2 + 7**2


def test_attention_that_stays_in_a_window_is_found(model):
    """What attends only within a window is learned as no more than that window."""
    narrow = model.with_adjacency(Window(2))
    learned = learn_adjacency(narrow, [batch(13, 7)], share=1.0, per="model", ends=0)
    assert learned == Offsets((-2, -1, 0, 1, 2))


def test_edges_by_place(model):
    sample = [batch(7, 7), batch(7, seed=2)]
    pattern = learn_adjacency(model, sample, share=0.7, by="position", per="head")
    assert isinstance(pattern, PerLayer)
    assert all(isinstance(each, PerHead) for each in pattern.patterns)
    assert all(isinstance(e, FixedEdges) for each in pattern.patterns for e in each.patterns)
    assert (attention_kept(model, sample, pattern) >= 0.7 - 1e-5).all()
    weights = sum(dense_attention(model, batch(7, 7))[0, 0, i : i + 7, i : i + 7] for i in (0, 7))
    weights = weights + dense_attention(model, batch(7, seed=2))[0, 0]
    most = weights.flatten().sort(descending=True).values.cumsum(0) / weights.sum()
    fewest = int((most < 0.7).sum()) + 1
    assert sum(map(len, pattern.patterns[0].patterns[0].sources)) == fewest


def test_a_model_over_what_was_learned_is_the_masked_one(model):
    """Equal to dense attention whose logits are masked by hand, head by head."""
    one = batch(13, 7)
    pattern = learn_adjacency(model, [one], share=0.8, per="head")
    x = model.embedding(one)
    adjacency = Complete()(one)
    for block, edges in zip(model.transformer.blocks, pattern(one), strict=True):
        rotary = model.transformer.position_encoding(one.pos, adjacency)["rotary"]
        q, k, v = block.attention._queries_keys_and_values(block.norm1(x), rotary)
        logits = torch.einsum("ihd,jhd->hij", q, k) * block.attention.head_dim**-0.5
        mask = torch.zeros(HEADS, 20, 20, dtype=torch.bool)
        source, target = edges.edge_index
        mask[:, target, source] = edges.heads.T
        weights = logits.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0)
        out = torch.einsum("hij,jhd->ihd", weights, v).flatten(1)
        x = x + block.attention.out(out)
        x = x + block.mlp(block.norm2(x))
    expected = model.head(model.transformer.norm(x), one)
    torch.testing.assert_close(model.with_adjacency(pattern)(one), expected, rtol=1e-4, atol=1e-5)


def test_wrong_use(model):
    with pytest.raises(ValueError, match="share: got 0, expected above 0 and at most 1"):
        learn_adjacency(model, [batch(3)], share=0)
    with pytest.raises(ValueError, match="batches: got none, expected at least one sample"):
        learn_adjacency(model, [])
    with pytest.raises(ValueError, match="got samples of 3, 5 nodes, expected one size"):
        learn_adjacency(model, [batch(3, 5)], by="position")
    with pytest.raises(ValueError, match="got Identity, expected a graphformer Model"):
        learn_adjacency(torch.nn.Identity(), [batch(3)])
