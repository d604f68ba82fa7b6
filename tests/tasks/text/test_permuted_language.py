"""Permuted language modelling: edges by hand, what predictions depend on, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tasks import trainer

from graphformer import models
from graphformer.data import TextFile, pack_tokens
from graphformer.patterns import Causal, Complete, Window
from graphformer.tasks import PermutedLanguageModeling
from graphformer.tasks.text.masked_language import logits_at
from graphformer.tasks.text.permuted_language import Kind, draw_order, two_streams

MASK = 29


def mask_of(streams: torch.Tensor) -> list[str]:
    return ["".join("1" if there else "." for there in row) for row in streams.tolist()]


def test_edges_of_both_kinds_by_hand() -> None:
    batch = pack_tokens([[10, 11, 12, 13]])
    order = torch.tensor([-1, 1, 0, -1])  # token 2 is predicted first, then token 1
    streams = two_streams(batch, Complete()(batch), order, mask_id=MASK)
    assert streams.batch.x.tolist() == [10, 11, 12, 13, MASK, MASK]
    assert streams.batch.pos.tolist() == [0, 1, 2, 3, 1, 2]
    assert streams.batch.query_mask.tolist() == [False] * 4 + [True] * 2
    assert streams.queries.tolist() == [4, 5]
    assert mask_of(streams.adjacency.to_mask()) == [
        "1..1..",
        "1111..",
        "1.11..",
        "1..1..",
        "1.11..",
        "1..1..",
    ]
    streams = two_streams(batch, Complete()(batch), order, mask_id=MASK, kind="mpnet")
    assert streams.batch.x.tolist() == [10, 11, 12, 13, *[MASK] * 4]
    assert streams.batch.pos.tolist() == [0, 1, 2, 3, 1, 2, 1, 2]
    assert streams.batch.query_mask.tolist() == [False] * 6 + [True] * 2
    mask = streams.adjacency.to_mask()
    assert mask_of(mask) == [  # tokens, masks of 1 and 2, queries of 1 and 2
        "1..111..",
        "1111....",
        "1.111...",
        "1..111..",
        "1..111..",
        "1..111..",
        "1.111...",
        "1..111..",
    ]
    # Song et al., figure 2: every node attends to each position of the text.
    assert (mask.sum(1) == 4).all()


def test_samples_stay_apart_and_patterns_restrict_positions() -> None:
    batch = pack_tokens([[1, 2, 3], [], [4, 5]])
    order = torch.tensor([0, -1, 1, -1, 0])
    streams = two_streams(batch, Complete()(batch), order, mask_id=MASK, kind="mpnet")
    assert streams.batch.lengths == (7, 0, 4)
    assert streams.batch.x.tolist() == [1, 2, 3, *[MASK] * 4, 4, 5, MASK, MASK]
    assert streams.queries.tolist() == [5, 6, 10]
    mask = streams.adjacency.to_mask()
    assert not mask[:7, 7:].any()
    assert not mask[7:, :7].any()
    near = two_streams(batch, Window(1)(batch), order, mask_id=MASK, kind="mpnet")
    pos = near.batch.pos
    expected = mask & ((pos[:, None] - pos).abs() <= 1)
    assert torch.equal(near.adjacency.to_mask(), expected)
    causal = two_streams(batch, Causal()(batch), order, mask_id=MASK)
    assert (causal.batch.pos[causal.adjacency.edge_index]).diff(dim=0).min() >= 0


@pytest.mark.parametrize("kind", ["xlnet", "mpnet"])
@pytest.mark.parametrize("positions", ["learned", "relative", "rotary"])
def test_a_prediction_depends_on_earlier_tokens_and_its_position(
    kind: Kind, positions: models.PositionKind
) -> None:
    torch.manual_seed(0)
    network = models.bert(
        vocab_size=31, dim=12, depth=2, num_heads=2, max_length=16, positions=positions
    ).double()
    order = torch.tensor([-1, 2, -1, 0, 1, -1])

    def logits(x: list[int], places: torch.Tensor = order) -> torch.Tensor:
        batch = pack_tokens([x])
        streams = two_streams(batch, Complete()(batch), places, mask_id=MASK, kind=kind)
        return logits_at(network, streams.batch, streams.adjacency, streams.queries)

    x = [1, 2, 3, 4, 5, 6]
    plain = logits(x)  # of tokens 1, 3 and 4
    for token, changed in ((0, [0, 1, 2]), (1, []), (3, [0, 2]), (4, [0])):
        other = logits([9 if i == token else id_ for i, id_ in enumerate(x)])
        differs = [not torch.allclose(a, b, atol=1e-9) for a, b in zip(plain, other, strict=True)]
        assert [i for i, is_other in enumerate(differs) if is_other] == changed, token
    moved = logits(x, torch.tensor([-1, -1, -1, 0, -1, -1]))
    assert moved.shape == (1, 31)
    assert not torch.allclose(moved[0], plain[1])


def test_orders_are_drawn_among_the_other_tokens() -> None:
    excluded = np.zeros(1_009 + 3, bool)
    excluded[[0, 1_008, 1_009, 1_010, 1_011]] = True
    generators = [np.random.default_rng(seed) for seed in range(2)]
    order = draw_order(excluded, (1_009, 3), 0.25, generators)
    places = order[order >= 0]
    assert sorted(places.tolist()) == list(range(252))
    assert places.diff().gt(0).float().mean() == pytest.approx(0.5, abs=0.1)
    assert (order[torch.from_numpy(excluded)] == -1).all()


@pytest.mark.parametrize("max_span", [2, 5, 2_003])
def test_spans_have_as_many_tokens_and_stay_within_the_sample(max_span: int) -> None:
    sizes = (1_009, 3, 0, 7)
    excluded = np.zeros(sum(sizes), bool)
    excluded[[0, 1_008, 1_009, 1_010, 1_011]] = True
    generators = [np.random.default_rng(seed) for seed in range(len(sizes))]
    order = draw_order(excluded, sizes, 0.25, generators, max_span)
    assert sorted(order[order >= 0].tolist()) == sorted([*range(252), *range(2)])
    assert (order[torch.from_numpy(excluded)] == -1).all()
    predicted = (order[: sizes[0]] >= 0).int()
    spans = int((predicted.diff() == 1).sum())
    # Without spans 0.75 of the predicted tokens follow one that is not predicted.
    assert spans <= 252 * 0.75 * 0.75
    if max_span > 252:
        assert spans <= 2
    places = order[: sizes[0]][order[: sizes[0]] >= 0]
    assert places.diff().gt(0).float().mean() == pytest.approx(0.5, abs=0.1)


def test_span_of_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="^max_span: got 0"):
        PermutedLanguageModeling(models.bert(vocab_size=7, dim=4, num_heads=2), max_span=0)


def test_a_network_learns_to_fill_in_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcd" * 197)
    data = TextFile(
        str(tmp_path / "a.txt"),
        block_size=16,
        batch_size=4,
        steps_per_epoch=40,
        vocabulary="bytes",
        special_tokens=True,
    )
    torch.manual_seed(0)
    network = models.bert(
        vocab_size=262, dim=32, depth=2, num_heads=2, positions="rotary", norm_first=True
    )
    task = PermutedLanguageModeling(network, kind="mpnet", rate=0.25, lr=5e-3)
    fit = trainer(max_epochs=3)
    fit.fit(task, data)
    assert float(fit.callback_metrics["val/accuracy"]) > 0.6  # chance: 0.25
    with pytest.raises(ValueError, match="rate: got 0"):
        PermutedLanguageModeling(network, rate=0)
