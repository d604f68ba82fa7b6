"""Text embeddings: batches, truncation, prompts, normalization, and search."""

from __future__ import annotations

import pytest
import torch
from helpers.generation import randomize
from torch.nn import functional as F

from graphformer import models
from graphformer.data import Characters, pack_tokens
from graphformer.models.text.embed import _batches
from graphformer.patterns import Complete

TEXTS = ["ab", "c", "abcabca", "bca", "aaaaa"]


def encoder(*, normalize: bool = True, **options) -> models.Model:
    tokenizer = Characters("abc?")
    model = models.sentence_embedder(
        tokenizer.vocab_size, dim=12, depth=1, num_heads=2, normalize=normalize, **options
    )
    model = randomize(model).with_adjacency(Complete())
    model.tokenizer = tokenizer
    return model


def vector(model: models.Model, text: str) -> torch.Tensor:
    return model(pack_tokens([model.tokenizer.encode(text)]))[0].detach()


def test_vectors_are_those_of_the_model_in_order():
    model = encoder()
    found = model.encode(TEXTS)
    assert found.shape == (5, 12)
    torch.testing.assert_close(found, torch.stack([vector(model, text) for text in TEXTS]))
    torch.testing.assert_close(model.encode("bca"), found[3])
    for tokens in (1, 5, 10_000):
        torch.testing.assert_close(model.encode(TEXTS, batch_tokens=tokens), found)


def test_no_texts():
    assert encoder().encode([]).shape == (0, 12)


def test_batches_hold_no_more_tokens_than_asked_for():
    ids = [[0] * n for n in (7, 5, 3, 2, 1, 11)]
    order = [5, 0, 1, 2, 3, 4]
    batches = list(_batches(order, ids, 8))
    assert [number for batch in batches for number in batch] == order
    assert batches == [[5], [0], [1, 2], [3, 4]]
    assert list(_batches([], [], 8)) == []


@pytest.mark.parametrize("own", [True, False])
def test_normalization(own: bool):
    model = encoder(normalize=own)
    raw = encoder(normalize=False).encode(TEXTS)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01
    normalized = F.normalize(raw, dim=-1)
    torch.testing.assert_close(model.encode(TEXTS), normalized if own else raw)
    torch.testing.assert_close(model.encode(TEXTS, normalize=True), normalized)
    torch.testing.assert_close(model.encode(TEXTS, normalize=False), raw)
    assert model.head.normalize is own, "restored"


def test_prompts_precede_texts():
    model = encoder()
    expected = model.encode(["?ab", "?c"])
    torch.testing.assert_close(model.encode(["ab", "c"], prompt="?"), expected)
    model.prompt = "?"
    torch.testing.assert_close(model.encode(["ab", "c"]), expected)
    torch.testing.assert_close(model.encode("?ab", prompt=""), expected[0])


@pytest.mark.parametrize("pool", ["mean", "max", "last", "cls"])
def test_a_prompt_can_be_left_out_of_the_pooling(pool):
    model = encoder(normalize=False, pool=pool)
    nodes = model.transformer(
        model.embedding(pack_tokens([model.tokenizer.encode("??ab")])), Complete()(
            pack_tokens([[0] * 4])
        )
    ).detach()  # fmt: skip
    model.prompt, model.include_prompt = "??", False
    expected = {"mean": nodes[2:].mean(0), "max": nodes[2:].amax(0), "last": nodes[3],
                "cls": nodes[0]}  # fmt: skip
    found = model.encode(["ab", "c"])[0]
    torch.testing.assert_close(found, expected[pool])
    assert model.head.pool == pool, "restored"


def test_long_texts_are_truncated():
    model = encoder(max_length=5)
    torch.testing.assert_close(model.encode("abcabca"), model.encode("abcab"))


def test_dropout_is_off_and_training_is_restored():
    model = encoder(dropout=0.5).train()
    assert torch.equal(model.encode(TEXTS), model.encode(TEXTS))
    assert all(module.training for module in model.modules())


def test_models_that_cannot_encode():
    tagger = models.token_tagger(29, 3, dim=10, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="model: got one without a tokenizer, expected a sentence"):
        tagger.encode("a")
    tagger.tokenizer = Characters("a")
    with pytest.raises(ValueError, match="model: got one without a head that pools"):
        tagger.encode("a")
    with pytest.raises(ValueError, match="texts: got no token in number 1, expected one or more"):
        encoder().encode(["a", ""])
    with pytest.raises(TypeError, match=r"'normalise': did you mean 'normalize'\?"):
        encoder().encode("a", normalise=True)


def test_search_finds_the_largest_cosines():
    torch.manual_seed(3)
    queries, vectors = torch.randn(1031, 5), torch.randn(37, 5)
    cosines, indices = models.search(queries, vectors, top_k=3)
    expected = F.cosine_similarity(queries.unsqueeze(1), vectors, dim=-1).topk(3)
    torch.testing.assert_close(cosines, expected.values)
    assert torch.equal(indices, expected.indices)
    one = models.search(queries[7], vectors, top_k=3)
    torch.testing.assert_close(one[0], cosines[7])
    assert torch.equal(one[1], indices[7])
    assert models.search(queries[0], vectors[:2])[1].shape == (2,), "no more than there are"
