"""Generation: cached as uncached, greedy, drawn and by beams, on whatever the model is made of."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graphformer import models, patterns
from graphformer.models.generation import decoding_options
from graphformer.models.generation.decoders import CachedDecoder, UncachedDecoder, reach
from graphformer.models.generation.sampling import draw_tokens, filter_logits

VOCAB = 31
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [10, 11, 12], [3, 4, 5, 6, 7, 8, 30]]
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]
WINDOW = patterns.Window(2, causal=True)


def drawn(model, seed=3):
    """The model in float64 and all its weights far from zero, so that every part matters."""
    torch.manual_seed(seed)
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    return model.double().eval()


def decoder(positions="rotary", vocab_size=VOCAB, **parts):
    parts = {"dim": 24, "depth": 3, "num_heads": 4, "num_kv_heads": 2, **parts}
    return drawn(models.language_model(vocab_size, positions=positions, **parts))


def translator(**parts):
    parts = {"dim": 24, "depth": 2, "decoder_depth": 3, "num_heads": 4, "tied": False, **parts}
    return drawn(models.encoder_decoder(VOCAB, **parts))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    "pattern",
    [patterns.Causal(), WINDOW, patterns.Prefix(), [WINDOW, patterns.Causal(), WINDOW]],
    ids=["causal", "window", "prefix", "one-a-block"],
)
def test_cached_logits_are_those_of_the_whole_text(positions, pattern):
    model, texts = decoder(positions), sorted(PROMPTS, key=len)
    cached, whole = CachedDecoder(model, texts, pattern), UncachedDecoder(model, texts, pattern)
    with torch.no_grad():
        torch.testing.assert_close(cached.start(), whole.start(), rtol=1e-5, atol=1e-6)
        for step in range(7):
            tokens = torch.arange(len(texts)) + step
            got, expected = cached.step(tokens), whole.step(tokens)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
            if step == 3:
                rows = torch.tensor([0, 2, 2, 4])
                cached.select(rows), whole.select(rows)
                texts = [texts[row] for row in rows]


@pytest.mark.parametrize("parts", [{}, {"positions": "relative", "norm": "rms", "bias": False}])
def test_an_encoder_decoder_is_cached_too(parts):
    model = translator(**parts)
    options = {"max_new_tokens": 11, "start_id": 0, "temperature": 0}
    answers = model.generate(PROMPTS, **options)
    assert answers == model.generate(PROMPTS, cache=False, **options)
    assert answers[1] == model.generate(PROMPTS[1], **options)
    assert all(len(answer) == 12 and answer[0] == 0 for answer in answers)
    assert len({tuple(answer) for answer in answers}) > 1


def test_greedy_takes_the_likeliest_token_each_time():
    model, text = decoder(), list(PROMPTS[1])
    for _ in range(5):
        batch = SimpleNamespace(
            x=torch.tensor(text), pos=torch.arange(len(text)), lengths=(len(text),)
        )
        text.append(int(model(batch, patterns.Causal()(batch))[-1].argmax()))
    assert model.generate(PROMPTS[1], max_new_tokens=5, temperature=0) == text


@pytest.mark.parametrize("model", [decoder(), decoder("learned", num_experts=3)])
def test_a_batch_of_prompts_is_each_alone(model):
    options = {"max_new_tokens": 7, "temperature": 0}
    together = model.generate(PROMPTS, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    assert model.generate([torch.tensor(p) for p in PROMPTS], **options) == together
    assert model.generate(torch.tensor(PROMPTS[0]), **options) == together[0]


def test_draws_are_repeatable_and_follow_the_model():
    model = decoder(vocab_size=5)
    options = {"max_new_tokens": 3, "temperature": 1.5}
    first = model.generate([[1, 2]] * 7, seed=11, **options)
    assert first == model.generate([[1, 2]] * 7, seed=11, **options)
    assert first == model.generate([[1, 2]] * 7, seed=11, cache=False, **options)
    assert first != model.generate([[1, 2]] * 7, seed=12, **options)
    last = [text[-1] for text in model.generate([[1, 2]] * 4001, max_new_tokens=1, seed=3)]
    batch = SimpleNamespace(x=torch.tensor([1, 2]), pos=torch.arange(2), lengths=(2,))
    expected = model(batch, patterns.Causal()(batch))[-1].softmax(-1)
    share = torch.bincount(torch.tensor(last), minlength=5) / len(last)
    torch.testing.assert_close(share, expected.float(), rtol=0, atol=0.04)


@pytest.mark.parametrize("model", [decoder(), translator()], ids=["decoder", "translator"])
def test_what_is_drawn_for_a_prompt_does_not_depend_on_the_others(model):
    options = {"max_new_tokens": 7, "seed": 5, "eos_token_id": 4}
    if model.__class__.__name__ == "EncoderDecoder":
        options["start_id"] = 0
    together = model.generate(PROMPTS, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    assert together[::-1] == model.generate(PROMPTS[::-1], **options)
    twice = model.generate([PROMPTS[1], PROMPTS[0], PROMPTS[1]], **options)
    assert twice[:2] == [together[1], together[0]]
    assert twice[2] != twice[0]


def test_draws_keep_what_is_likely_at_any_temperature():
    probability = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.0]]).expand(4, -1)
    chance = torch.tensor([0.0, 1 / 3 - 1e-9, 1 / 3 + 1e-9, 1 - 2**-53], dtype=torch.float64)
    assert draw_tokens(probability, chance).tolist() == [1, 1, 3, 3]
    model = decoder()
    options = {"max_new_tokens": 5, "seed": 1}
    cold = model.generate(PROMPTS, temperature=1e-30, **options)
    assert cold == model.generate(PROMPTS, temperature=0, **options)
    model.head.linear.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match=r"not numbers \(NaN\): its training has diverged"):
        model.generate(PROMPTS, **options)
    with pytest.raises(ValueError, match="seed must be 0 or more, or None, got -1"):
        model.generate(PROMPTS, max_new_tokens=5, seed=-1)


def test_how_to_decode_is_told_by_the_pattern():
    model, causal = decoder("learned", max_length=41), patterns.Causal()
    layers = (WINDOW, causal & patterns.Documents(), causal)
    assert decoding_options(model, patterns.PerLayer(layers)) == {
        "adjacency": layers,
        "context": 41,
        "cache": True,
    }
    assert reach(WINDOW & patterns.Documents()) == reach(WINDOW) == 3
    sparse = causal & (patterns.Dilated(2, 3) | patterns.GlobalNodes())
    assert not decoding_options(model, sparse)["cache"]
    options = {"max_new_tokens": 5, "temperature": 0}
    text = models.generate(model, PROMPTS[4], **decoding_options(model, sparse), **options)
    batch = SimpleNamespace(x=torch.tensor(text[:-1]), pos=torch.arange(11), lengths=(11,))
    assert int(model(batch, sparse(batch))[-1].argmax()) == text[-1]
    assert models.generate(model, PROMPTS, adjacency=patterns.PerLayer(layers), **options) == (
        models.generate(model, PROMPTS, adjacency=layers, cache=False, **options)
    )
    recurrent = models.recurrent_language_model(VOCAB, 12)
    assert not decoding_options(recurrent, patterns.Complete())["cache"]
    for ahead in (patterns.Complete(), causal | patterns.Dilated(2, 50)):
        with pytest.raises(ValueError, match="tokens see what follows them, so it cannot write"):
            decoding_options(model, ahead)


def test_top_k_and_top_p_leave_the_likeliest():
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]).log()
    alive = [row.isfinite().tolist() for row in filter_logits(logits, 2, None)]
    assert alive[0] == [False, True, False, True]
    assert [row.isfinite().tolist() for row in filter_logits(logits, None, 0.65)] == [
        [False, True, False, True],
        [True, False, False, False],
    ]
    assert torch.equal(filter_logits(logits, 4, 1.0), logits)
    model = decoder()
    greedy = model.generate(PROMPTS, max_new_tokens=5, temperature=0)
    assert model.generate(PROMPTS, max_new_tokens=5, top_k=1) == greedy
    assert model.generate(PROMPTS, max_new_tokens=5, top_p=1e-6) == greedy


def test_what_was_seen_is_made_less_likely():
    model, penalty = decoder(), 1.7
    text = [7, 3]
    for _ in range(7):
        batch = SimpleNamespace(
            x=torch.tensor(text), pos=torch.arange(len(text)), lengths=(len(text),)
        )
        logits = model(batch, patterns.Causal()(batch))[-1].tolist()
        for token in set(text):
            logits[token] *= 1 / penalty if logits[token] > 0 else penalty
        text.append(max(range(VOCAB), key=logits.__getitem__))
    options = {"max_new_tokens": 7, "temperature": 0}
    assert model.generate([7, 3], repetition_penalty=penalty, **options) == text
    both = model.generate([[9], [7, 3]], repetition_penalty=penalty, **options)
    assert both[1] == text
    assert text != model.generate([7, 3], **options)
    with pytest.raises(ValueError, match="repetition_penalty must be above 0"):
        model.generate([7], max_new_tokens=1, repetition_penalty=0)


def test_texts_end_at_eos_and_stops_each_by_itself():
    model = decoder()
    free = model.generate(PROMPTS, max_new_tokens=13, temperature=0)
    eos = free[1][len(PROMPTS[1]) + 3]
    ended = model.generate(PROMPTS, max_new_tokens=13, temperature=0, eos_token_id=eos)
    for prompt, whole, short in zip(PROMPTS, free, ended, strict=True):
        new = whole[len(prompt) :]
        expected = new[: new.index(eos) + 1] if eos in new else new
        assert short == prompt + expected
    start = len(PROMPTS[0]) + 5
    stop = free[0][start : start + 2]
    stopped = model.generate(PROMPTS[0], max_new_tokens=13, temperature=0, stop=[stop])
    assert stopped[-2:] == stop
    assert stopped == free[0][: len(stopped)]


def test_tokens_are_told_as_they_come():
    model, told = decoder(), []

    def stream(number, token):
        told.append((number, token))
        return number == 2 and len([n for n, _ in told if n == 2]) == 3

    texts = model.generate(PROMPTS, max_new_tokens=5, seed=1, stream=stream)
    for number, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True)):
        assert [token for n, token in told if n == number] == text[len(prompt) :]
        assert len(text) - len(prompt) == (3 if number == 2 else 5)


def log_probability(model, text, prompt):
    batch = SimpleNamespace(x=torch.tensor(text), pos=torch.arange(len(text)), lengths=(len(text),))
    logp = model(batch, patterns.Causal()(batch)).detach().log_softmax(-1)
    return sum(float(logp[i - 1, text[i]]) for i in range(prompt, len(text)))


@pytest.mark.parametrize("eos_token_id", [None, 2])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_enough_beams_find_the_most_likely_text(eos_token_id, length_penalty):
    vocab, count = 5, 3
    model, prompt = decoder(vocab_size=vocab), [1, 3]
    candidates = set()
    for new in itertools.product(range(vocab), repeat=count):
        end = new.index(eos_token_id) + 1 if eos_token_id in new else count
        candidates.add(new[:end])

    def score(new):
        total = log_probability(model, [*prompt, *new], len(prompt))
        return total / len(new) ** length_penalty

    best = max(candidates, key=score)
    options = {
        "max_new_tokens": count,
        "eos_token_id": eos_token_id,
        "length_penalty": length_penalty,
    }
    found = model.generate(prompt, num_beams=vocab**count, **options)
    assert found == [*prompt, *best]


def test_beams_are_cached_and_each_prompts_own():
    model = decoder()
    options = {"max_new_tokens": 7, "num_beams": 3, "eos_token_id": 4}
    together = model.generate(PROMPTS, **options)
    assert together == model.generate(PROMPTS, cache=False, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    greedy = model.generate(PROMPTS, max_new_tokens=7, temperature=0, eos_token_id=4)
    scores = [
        [log_probability(model, t, len(p)) for t, p in zip(texts, PROMPTS, strict=True)]
        for texts in (model.generate(PROMPTS, **options, length_penalty=0.0), greedy)
    ]
    assert sum(scores[0]) > sum(scores[1])
    options = {"max_new_tokens": 7, "num_beams": 3, "eos_token_id": 4, "adjacency": WINDOW}
    near = model.generate(PROMPTS, **options)
    assert near == model.generate(PROMPTS, cache=False, **options)
    assert near != together
    both = translator()
    options = {"max_new_tokens": 5, "num_beams": 3, "start_id": 0}
    assert both.generate(PROMPTS, **options) == both.generate(PROMPTS, cache=False, **options)


def test_a_window_keeps_no_more_than_its_radius():
    model = decoder("learned", max_length=307)
    cached = CachedDecoder(model, [PROMPTS[0]], WINDOW)
    with torch.inference_mode():
        cached.start()
        for _ in range(300):
            cached.step(torch.tensor([5]))
    assert all(kept.groups[0].keys.shape[2] == 64 for kept in cached.cache)


def test_past_what_was_learned_the_model_looks_at_the_last_tokens():
    model = decoder("learned", max_length=7)
    with pytest.raises(ValueError, match=r"max_length 7: pass context=7"):
        model.generate(PROMPTS[0], max_new_tokens=6)
    text = model.generate(PROMPTS[:4], max_new_tokens=11, temperature=0, context=7)
    assert text == model.generate(
        PROMPTS[:4], max_new_tokens=11, temperature=0, context=7, cache=False
    )
    last = text[0][-8:-1]
    batch = SimpleNamespace(x=torch.tensor(last), pos=torch.arange(7), lengths=(7,))
    assert int(model(batch, patterns.Causal()(batch))[-1].argmax()) == text[0][-1]
    assert model.generate(PROMPTS[0], max_new_tokens=5, temperature=0) == text[0][:8]


def test_the_model_stays_as_it_was():
    model = decoder(dropout=0.5).train()
    model.transformer.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    first, second = (model.generate(PROMPTS, max_new_tokens=3, temperature=0) for _ in range(2))
    assert first == second
    assert [module.training for module in model.modules()] == modes
    batch = SimpleNamespace(x=torch.tensor([1, 2]), pos=torch.arange(2), lengths=(2,))
    model(batch, patterns.Causal()(batch)).sum().backward()  # nothing was left in inference mode


def test_any_network_without_a_cache():
    model = drawn(models.recurrent_language_model(VOCAB, 12))
    texts = models.generate(model, PROMPTS, max_new_tokens=3, temperature=0, cache=False)
    assert texts[2] == models.generate(model, [9], max_new_tokens=3, temperature=0, cache=False)


@pytest.mark.parametrize(
    ("prompts", "options", "match"),
    [
        ([], {}, "at least one token"),
        ([[1], []], {}, "an empty one"),
        ([1, VOCAB], {}, "hold the id 31, but the model knows 0 to 30"),
        ([-1, 3], {}, "hold the id -1"),
        ([1], {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ([1], {"temperature": -1.0}, "temperature must be 0 or more"),
        ([1], {"top_k": 0}, "top_k must be at least 1"),
        ([1], {"top_p": 0.0}, "top_p must be above 0"),
        ([1], {"stop": [[]]}, "stop must hold"),
        ([1], {"num_beams": 3, "top_k": 2}, "num_beams looks for the most likely"),
        ([1], {"num_beams": 0}, "num_beams must be at least 1"),
        ([1], {"adjacency": patterns.Complete()}, "cannot be decoded with a cache"),
    ],
)
def test_errors_name_the_argument(prompts, options, match):
    with pytest.raises(ValueError, match=match):
        decoder().generate(prompts, **{"max_new_tokens": 3, **options})


def test_networks_that_cannot_write_are_told_so():
    pooled = models.text_classifier(VOCAB, 3, dim=12, num_heads=2)
    with pytest.raises(ValueError, match="use a head that does not pool"):
        pooled.generate(PROMPTS, max_new_tokens=1, cache=False)
    with pytest.raises(ValueError, match="use a head that does not pool"):
        pooled.generate(PROMPTS, max_new_tokens=1)
    with pytest.raises(ValueError, match="a cache needs a graphformer Model, got RecurrentModel"):
        models.generate(models.recurrent_language_model(VOCAB, 12), [1], max_new_tokens=1)
