"""A text and the codes of its image: layout, labels, masks by hand, drawn codes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import graphformer as gf
from graphformer.batch_type import Batch
from graphformer.data import append_codes, pack_tokens
from graphformer.models import TextToImageModel, dalle
from graphformer.patterns import Between, Causal, Grid, Within

VOCABULARY, CODES = 11, 5
TEXTS = [[1, 6, 7], [1], [1, 3, 4, 2]]
SHAPES = [(2, 3), (1, 2), (2, 2)]
LINES = Within(1, (Grid((0, 3)) | Grid((2, 0)) | Grid(1)) & Causal())
SPARSE = Within(0, Causal()) | Between(target=1, source=0) | LINES


def codes_of(shapes: list[tuple[int, int]] = SHAPES) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(CODES, (sum(r * c for r, c in shapes),), generator=generator)


def joint(codes: Tensor | None = None) -> Batch:
    codes = codes_of() if codes is None else codes
    return append_codes(pack_tokens(TEXTS), codes, SHAPES, vocab_size=VOCABULARY)


def small() -> TextToImageModel:
    torch.manual_seed(0)
    model = dalle(VOCABULARY, num_codes=CODES, max_side=3, dim=12, depth=2, num_heads=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.double().eval()


def test_ids_types_and_labels() -> None:
    batch = append_codes(
        pack_tokens([[1, 6], [1]]), torch.tensor([4, 0, 2]), [(1, 2), (1, 1)], vocab_size=9
    )
    assert batch.x.tolist() == [1, 6, 13, 9, 1, 11]
    assert batch.node_type.tolist() == [0, 0, 1, 1, 0, 1]
    assert batch.y.tolist() == [-100, 4, 0, -100, 2, -100]
    assert batch.lengths == (4, 2)
    assert batch.prefix_lengths == (2, 1)
    assert batch.pos.tolist() == [0, 1, 2, 3, 0, 1]


def test_the_sparse_edges_are_those_of_dalle() -> None:
    """By hand: text before; all text; codes before in the row, the column or beside."""
    batch, start, found = joint(), 0, SPARSE(joint()).to_mask()
    expected = torch.zeros_like(found)
    for text, (rows, columns) in zip(TEXTS, SHAPES, strict=True):
        cells = [(r, c) for r in range(rows) for c in range(columns)]
        for i in range(len(text) + len(cells)):
            for j in range(i + 1):
                is_text = j < len(text)
                allowed = is_text
                if not is_text:
                    (r, c), (s, d) = cells[i - len(text)], cells[j - len(text)]
                    allowed = r == s or c == d or max(abs(r - s), abs(c - d)) <= 1
                expected[start + i, start + j] = allowed
        start += len(text) + len(cells)
    assert torch.equal(found, expected)
    assert len(batch.x) == start


@pytest.mark.parametrize("pattern", [Causal(), SPARSE])
def test_packed_samples_equal_single_ones(pattern: gf.Pattern) -> None:
    model, batch = small(), joint()
    together = model(batch, pattern).split(list(batch.lengths))
    codes = codes_of().split([r * c for r, c in SHAPES])
    for rows, text, own, shape in zip(together, TEXTS, codes, SHAPES, strict=True):
        single = append_codes(pack_tokens([text]), own, [shape], vocab_size=VOCABULARY)
        torch.testing.assert_close(model(single, pattern), rows)


@pytest.mark.parametrize("pattern", [Causal(), SPARSE])
def test_later_codes_and_other_samples_have_no_influence(pattern: gf.Pattern) -> None:
    model, batch = small(), joint()
    before = model(batch, pattern)
    batch.x[5] = VOCABULARY + (batch.x[5] - VOCABULARY + 1) % CODES  # code 2 of the first image
    changed = (model(batch, pattern) != before).any(1)
    assert not changed[:5].any()
    assert changed[5]
    assert not changed[9:].any()


@pytest.mark.parametrize("pattern", [Causal(), SPARSE])
def test_drawn_codes_are_the_likeliest_of_their_own_logits(pattern: gf.Pattern) -> None:
    model, texts = small(), pack_tokens(TEXTS)
    codes = model.sample_codes(texts, (2, 3), pattern, temperature=0)
    batch = append_codes(texts, codes.flatten(), [(2, 3)] * 3, vocab_size=VOCABULARY)
    logits = model(batch, pattern)
    is_label = batch.y >= 0
    assert torch.equal(logits.argmax(1)[is_label], batch.y[is_label])


def test_drawn_codes_repeat_with_the_seed_and_follow_the_temperature() -> None:
    model, texts = small(), pack_tokens(TEXTS)
    draws = [model.sample_codes(texts, (2, 2), Causal(), seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    cold = model.sample_codes(texts, (2, 2), Causal(), temperature=1e-4)
    assert torch.equal(cold, model.sample_codes(texts, (2, 2), Causal(), temperature=0))
    assert draws[0].shape == (3, 4)
    assert not model.training


@pytest.mark.parametrize("pattern", [Causal(), SPARSE])
def test_gradients_reach_all_weights(pattern: gf.Pattern) -> None:
    model, batch = small(), joint()
    is_label = batch.y >= 0
    logits = model(batch, pattern)[is_label]
    torch.nn.functional.cross_entropy(logits, batch.y[is_label]).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_wrong_inputs_are_named() -> None:
    texts = pack_tokens(TEXTS)
    for shapes, count, words in (
        (SHAPES[:2], 8, "shapes: got 2, expected 3, one for each text"),
        (SHAPES, 11, "codes: got shape .11,., expected the 12 cells"),
    ):
        with pytest.raises(ValueError, match=words):
            append_codes(texts, torch.zeros(count, dtype=torch.int64), shapes, vocab_size=11)
    with pytest.raises(ValueError, match="texts: got an empty one"):
        append_codes(pack_tokens([[]]), torch.tensor([1]), [(1, 1)], vocab_size=11)
    with pytest.raises(ValueError, match="temperature: got -1"):
        small().sample_codes(texts, (1, 1), Causal(), temperature=-1)
    with pytest.raises(ValueError, match=r"shapes: got an image of 4 rows or columns, expected at"):
        small().sample_codes(texts, (1, 4), Causal())
