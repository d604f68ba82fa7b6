"""Decoders: the cached logits are those of the whole texts, at every step and after selection."""

from __future__ import annotations

import pytest
import torch
from helpers.generation import PROMPTS, WINDOW, decoder, translator

from graphformer import models, patterns
from graphformer.data import pack_tokens
from graphformer.models.generation.decoders import (
    CachedDecoder,
    UncachedDecoder,
    WindowedDecoder,
    last_nodes,
    pack_prompts,
)
from graphformer.models.generation.encoder_output import EncoderOutput

POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    "pattern",
    [patterns.Causal(), WINDOW, patterns.Prefix(), [WINDOW, patterns.Causal(), WINDOW]],
    ids=["causal", "window", "prefix", "per-block"],
)
def test_cached_logits_are_those_of_the_whole_text(positions, pattern):
    model, texts = decoder(positions), sorted(PROMPTS, key=len)
    cached, whole = CachedDecoder(model, texts, pattern), UncachedDecoder(model, texts, pattern)
    with torch.no_grad():
        close(cached.start(), whole.start())
        for step in range(7):
            tokens = torch.arange(len(texts)) + step
            close(cached.step(tokens), whole.step(tokens))
            if step == 3:
                rows = torch.tensor([0, 2, 2, 4])
                cached.select(rows), whole.select(rows)
                texts = [texts[row] for row in rows]


def test_an_encoder_decoder_selects_its_sources_too():
    model = translator()
    sources = pack_tokens(sorted(PROMPTS, key=len))
    with torch.no_grad():
        nodes = model.encoder(sources, patterns.Complete())
        output = EncoderOutput(nodes, sources.lengths, sources.x)
        starts = [[0]] * len(PROMPTS)
        options = {"encoder_output": output}
        cached = CachedDecoder(model.decoder, starts, patterns.Causal(), **options)
        whole = UncachedDecoder(model.decoder, starts, patterns.Causal(), **options)
        close(cached.start(), whole.start())
        tokens = torch.arange(5) + 7
        close(cached.step(tokens), whole.step(tokens))
        for kept in (torch.tensor([0, 1, 3, 3]), torch.tensor([2])):
            cached.select(kept), whole.select(kept)
            tokens = tokens[kept]
            close(cached.step(tokens), whole.step(tokens))


@pytest.mark.parametrize("pattern", [patterns.Causal(), WINDOW])
def test_draft_tokens_can_be_cropped(pattern):
    model, text = decoder(), [PROMPTS[1]]
    cached, whole = CachedDecoder(model, text, pattern), UncachedDecoder(model, text, pattern)
    with torch.no_grad():
        cached.start(), whole.start()
        rows = cached.extend(torch.tensor([9, 11, 13]))
        close(rows[:1], whole.step(torch.tensor([9])))
        close(rows[1:2], whole.step(torch.tensor([11])))
        cached.crop(1)
        close(
            cached.extend(torch.tensor([17, 19])),
            torch.cat([whole.step(torch.tensor([17])), whole.step(torch.tensor([19]))]),
        )
        cached.crop(0)
        close(cached.extend(torch.tensor([23])), whole.step(torch.tensor([23])))


def test_a_windowed_decoder_changes_to_whole_texts():
    model, context = decoder("learned", max_length=7), 7
    texts = sorted(PROMPTS[:4], key=len)
    windowed = WindowedDecoder(CachedDecoder(model, texts, patterns.Causal()), texts, context)
    whole = UncachedDecoder(model, texts, patterns.Causal(), context=context)
    with torch.no_grad():
        close(windowed.start(), whole.start())
        for step in range(5):
            assert (windowed.cached is None) == (step > 2), "prompts have up to five tokens"
            close(windowed.step(torch.arange(4) + step), whole.step(torch.arange(4) + step))
            if step in (1, 3):
                rows = torch.tensor([0, 1, 2, 3])
                windowed.select(rows), whole.select(rows)


def test_a_windowed_decoder_of_long_prompts_never_caches():
    model, text = decoder(), [PROMPTS[4]]
    windowed = WindowedDecoder(CachedDecoder(model, text, patterns.Causal()), text, 5)
    with torch.no_grad():
        close(windowed.start(), UncachedDecoder(model, text, patterns.Causal(), context=5).start())
    assert windowed.cached is None
    assert windowed.max_draft() == 0


def test_drafts_of_a_windowed_decoder_fit_its_context():
    model, text = decoder(), [PROMPTS[1]]
    windowed = WindowedDecoder(CachedDecoder(model, text, patterns.Causal()), text, 11)
    whole = UncachedDecoder(model, text, patterns.Causal(), context=11)
    with torch.no_grad():
        windowed.start(), whole.start()
        assert windowed.max_draft() == 5
        rows = windowed.extend(torch.tensor([9, 11, 13]))
        close(rows[:1], whole.step(torch.tensor([9])))
        windowed.crop(2)
        assert windowed.uncached.texts == [[*PROMPTS[1], 9]]
        for token in range(5):
            one = torch.tensor([token])
            close(windowed.extend(one), whole.step(one))
        assert windowed.max_draft() == 0
        one = torch.tensor([3])  # beyond the context
        close(windowed.extend(one), whole.step(one))
        assert windowed.cached is None


def test_a_window_bounds_the_cache():
    model = decoder("learned", max_length=307)
    cached = CachedDecoder(model, [PROMPTS[0]], WINDOW)
    with torch.inference_mode():
        cached.start()
        for _ in range(300):
            cached.step(torch.tensor([5]))
    for cache in cached.self_caches:
        assert cache.groups[0].keys.shape[2] == 64


def test_prompts_as_a_batch():
    batch = pack_prompts([[3, 5], [7]], (1, 1), torch.device("cpu"))
    assert batch.x.tolist() == [3, 5, 7]
    assert batch.pos.tolist() == [0, 1, 0]
    assert batch.lengths == batch.documents == (2, 1)
    assert batch.prefix_lengths == (1, 1)
    assert last_nodes(batch).tolist() == [1, 2]


def test_a_pooling_head_has_no_logits_per_token():
    pooled = models.text_classifier(31, 3, dim=12, num_heads=2)
    with pytest.raises(ValueError, match="got 5 rows of logits for 19 tokens, expected one per"):
        UncachedDecoder(pooled, PROMPTS, patterns.Causal()).start()
