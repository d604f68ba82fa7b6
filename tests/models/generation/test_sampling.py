"""Sampling: filters, draws, the repetition penalty and the ranges of options."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.generation import PROMPTS, VOCAB, decoder, last_logits, translator

from graphformer.models.generation.sampling import Sampler, draw_tokens, filter_logits

OPTIONS = {
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "repetition_penalty": 1.0,
    "seed": 3,
    "seed_keys": [(1,), (2,)],
}


def test_filters_keep_the_most_likely_tokens():
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]).log()
    kept = [row.isfinite().tolist() for row in filter_logits(logits, 2, None)]
    assert kept[0] == [False, True, False, True]
    assert kept[1] == [True] * 4, "ties are kept"
    assert [row.isfinite().tolist() for row in filter_logits(logits, None, 0.65)] == [
        [False, True, False, True],
        [True, False, False, False],
    ]
    assert torch.equal(filter_logits(logits, 4, 1.0), logits)
    assert torch.equal(filter_logits(logits, 99, None), logits)


def test_both_filters_apply():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    kept = filter_logits(logits, 3, 0.7).isfinite()
    assert kept.tolist() == [[True, True, False, False]]


def test_draws_invert_the_cumulative_distribution():
    probability = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.0]]).expand(4, -1)
    uniform = torch.tensor([0.0, 1 / 3 - 1e-9, 1 / 3 + 1e-9, 1 - 2**-53], dtype=torch.float64)
    assert draw_tokens(probability, uniform).tolist() == [1, 1, 3, 3]


def test_draws_follow_the_softmax_at_a_temperature():
    logits = torch.tensor([[0.3, -1.1, 0.7, 2.0]]).expand(4001, -1)
    keys = [(number,) for number in range(4001)]
    sampler = Sampler(**{**OPTIONS, "temperature": 1.7, "seed_keys": keys})
    share = torch.bincount(sampler.sample(logits), minlength=4) / 4001
    expected = (logits[0] / 1.7).softmax(-1)
    error = 4 * (expected * (1 - expected) / 4001).sqrt()  # four standard errors
    assert ((share - expected).abs() < error).all()


def test_streams_belong_to_their_texts():
    logits = torch.zeros(2, 97)
    first, second = Sampler(**OPTIONS), Sampler(**OPTIONS)
    both = [first.sample(logits).tolist() for _ in range(5)]
    second.select(torch.tensor([1]))
    assert [second.sample(logits[:1]).tolist() for _ in range(5)] == [[row[1]] for row in both]
    assert both != [Sampler(**{**OPTIONS, "seed": 4}).sample(logits).tolist() for _ in range(5)]
    assert len({tuple(Sampler(**{**OPTIONS, "seed": None}).sample(logits)) for _ in range(9)}) > 1


def test_the_penalty_applies_to_tokens_that_occurred():
    sampler = Sampler(**{**OPTIONS, "temperature": 0, "repetition_penalty": 2.0})
    scores = torch.tensor([[4.0, -4.0, 3.0], [4.0, -4.0, 3.0]])
    sampler.start([[0, 1], [2]], 3, scores.device)
    assert sampler.penalize(scores).tolist() == [[2.0, -8.0, 3.0], [4.0, -4.0, 1.5]]
    assert sampler.sample(scores).tolist() == [2, 0]
    assert sampler.penalize(scores).tolist() == [[2.0, -8.0, 1.5], [2.0, -4.0, 1.5]]
    sampler.select(torch.tensor([1, 1]))
    assert sampler.penalize(scores)[0].tolist() == [2.0, -4.0, 1.5]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"temperature": -1.0}, "temperature: got -1.0, expected a finite number"),
        ({"temperature": math.nan}, "temperature: got nan"),
        ({"temperature": math.inf}, "temperature: got inf"),
        ({"top_k": 0}, "top_k: got 0, expected at least 1"),
        ({"top_p": 0.0}, "top_p: got 0.0, expected 0 < top_p <= 1"),
        ({"top_p": 1.1}, "top_p: got 1.1"),
        ({"top_p": math.nan}, "top_p: got nan"),
        ({"repetition_penalty": 0}, "repetition_penalty: got 0, expected a finite number above 0"),
        ({"repetition_penalty": math.nan}, "repetition_penalty: got nan"),
        ({"seed": -1}, "seed: got -1, expected 0 or more"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        Sampler(**{**OPTIONS, **options})
    with pytest.raises(ValueError, match=match):
        decoder().generate([1], max_new_tokens=3, **options)


def test_generated_draws_are_repeatable():
    model = decoder(vocab_size=5)
    options = {"max_new_tokens": 3, "temperature": 1.5}
    first = model.generate([[1, 2]] * 7, seed=11, **options)
    assert first == model.generate([[1, 2]] * 7, seed=11, **options)
    assert first == model.generate([[1, 2]] * 7, seed=11, cache=False, **options)
    assert first != model.generate([[1, 2]] * 7, seed=12, **options)


@pytest.mark.parametrize("model", [decoder(), translator()], ids=["decoder", "translator"])
def test_draws_for_a_prompt_do_not_depend_on_the_others(model):
    options = {"max_new_tokens": 7, "seed": 5, "eos_token_id": 4}
    if model.__class__.__name__ == "EncoderDecoder":
        options["start_id"] = 0
    together = model.generate(PROMPTS, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    assert together[::-1] == model.generate(PROMPTS[::-1], **options)
    twice = model.generate([PROMPTS[1], PROMPTS[0], PROMPTS[1]], **options)
    assert twice[:2] == [together[1], together[0]]
    assert twice[2] != twice[0]


def test_greedy_limits():
    model = decoder()
    greedy = model.generate(PROMPTS, max_new_tokens=5, temperature=0)
    assert model.generate(PROMPTS, max_new_tokens=5, top_k=1) == greedy
    assert model.generate(PROMPTS, max_new_tokens=5, top_p=1e-6) == greedy
    assert model.generate(PROMPTS, max_new_tokens=5, temperature=1e-30) == greedy


def test_outputs_that_are_nan():
    model = decoder()
    model.head.linear.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match="network: got outputs that are NaN"):
        model.generate(PROMPTS, max_new_tokens=5, seed=1)


def test_generation_with_a_penalty():
    model, penalty = decoder(), 1.7
    text = [7, 3]
    for _ in range(7):
        logits = last_logits(model, text).tolist()
        for token in set(text):
            logits[token] *= 1 / penalty if logits[token] > 0 else penalty
        text.append(max(range(VOCAB), key=logits.__getitem__))
    options = {"max_new_tokens": 7, "temperature": 0}
    assert model.generate([7, 3], repetition_penalty=penalty, **options) == text
    assert model.generate([[9], [7, 3]], repetition_penalty=penalty, **options)[1] == text
    assert text != model.generate([7, 3], **options)
