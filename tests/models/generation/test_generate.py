"""`generate`: greedy, batched, streamed and windowed, for decoders and encoder-decoders."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.generation import (
    PROMPTS,
    VOCAB,
    decoder,
    last_logits,
    randomize,
    translator,
)

from graphformer import models, patterns


def test_greedy_decoding_takes_the_most_likely_token():
    model, text = decoder(), list(PROMPTS[1])
    for _ in range(5):
        text.append(int(last_logits(model, text).argmax()))
    assert model.generate(PROMPTS[1], max_new_tokens=5, temperature=0) == text


@pytest.mark.parametrize("model", [decoder(), decoder("learned", num_experts=3)])
def test_a_batch_equals_its_prompts(model):
    options = {"max_new_tokens": 7, "temperature": 0}
    together = model.generate(PROMPTS, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    assert model.generate([torch.tensor(p) for p in PROMPTS], **options) == together
    assert model.generate(torch.tensor(PROMPTS[0]), **options) == together[0]


@pytest.mark.parametrize("parts", [{}, {"positions": "relative", "norm": "rms", "bias": False}])
def test_an_encoder_decoder_is_cached_too(parts):
    model = translator(**parts)
    options = {"max_new_tokens": 11, "start_id": 0, "temperature": 0}
    answers = model.generate(PROMPTS, **options)
    assert answers == model.generate(PROMPTS, cache=False, **options)
    assert answers[1] == model.generate(PROMPTS[1], **options)
    assert all(len(answer) == 12 and answer[0] == 0 for answer in answers)
    assert len({tuple(answer) for answer in answers}) > 1


def test_streams_receive_each_token_and_can_end_a_text():
    model, received = decoder(), []

    def stream(number, token):
        received.append((number, token))
        return number == 2 and len([n for n, _ in received if n == 2]) == 3

    texts = model.generate(PROMPTS, max_new_tokens=5, seed=1, stream=stream)
    for number, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True)):
        assert [token for n, token in received if n == number] == text[len(prompt) :]
        assert len(text) - len(prompt) == (3 if number == 2 else 5)


def test_beyond_the_learned_positions_the_context_is_the_last_tokens():
    model = decoder("learned", max_length=7)
    with pytest.raises(ValueError, match=r"max_length 7; pass context=7"):
        model.generate(PROMPTS[0], max_new_tokens=6)
    options = {"max_new_tokens": 11, "temperature": 0, "context": 7}
    text = model.generate(PROMPTS[:4], **options)
    assert text == model.generate(PROMPTS[:4], cache=False, **options)
    assert int(last_logits(model, text[0][-8:-1]).argmax()) == text[0][-1]
    assert model.generate(PROMPTS[0], max_new_tokens=5, temperature=0) == text[0][:8]


def test_any_network_without_a_cache():
    model = randomize(models.recurrent_language_model(VOCAB, 12))
    texts = models.generate(model, PROMPTS, max_new_tokens=3, temperature=0, cache=False)
    assert texts[2] == models.generate(model, [9], max_new_tokens=3, temperature=0, cache=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: got 0, expected at least 1"),
        ({"num_beams": 3, "top_k": 2}, "num_beams: got 3 with top_k, top_p or stream"),
        ({"num_beams": 2, "stream": print}, "num_beams: got 2 with"),
        ({"num_beams": 0}, "num_beams: got 0"),
        ({"num_beams": 2, "length_penalty": math.nan}, "length_penalty: got nan"),
        ({"context": 0}, "context: got 0"),
        ({"adjacency": patterns.Complete()}, "cannot be decoded with a cache"),
    ],
)
def test_errors_name_the_option(options, match):
    with pytest.raises(ValueError, match=match):
        decoder().generate([1], **{"max_new_tokens": 3, **options})


def test_networks_that_cannot_be_decoded():
    pooled = models.text_classifier(VOCAB, 3, dim=12, num_heads=2)
    for cache in (False, True):
        with pytest.raises(ValueError, match="use a head that does not pool"):
            pooled.generate(PROMPTS, max_new_tokens=1, cache=cache)
    with pytest.raises(ValueError, match="got RecurrentModel, .*; pass cache=False"):
        models.generate(models.recurrent_language_model(VOCAB, 12), [1], max_new_tokens=1)


@pytest.mark.parametrize("model", [decoder(), translator()], ids=["decoder", "translator"])
def test_misspelt_and_old_options(model):
    options = {"max_new_tokens": 3, "temperature": 0}
    if isinstance(model, models.EncoderDecoder):
        options["start_id"] = 0
    with pytest.raises(TypeError, match=r"'temprature': did you mean 'temperature'\?"):
        model.generate([1], **options, temprature=1.0)
    expected = model.generate([1], **options, eos_token_id=5, prompt_lookup=False)
    with pytest.warns(FutureWarning, match="is now called"):
        assert model.generate([1], **options, eos_id=5, guess=False) == expected
