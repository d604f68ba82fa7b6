"""Beam search against exhaustive search, and its bookkeeping on a scripted decoder."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.generation import PROMPTS, WINDOW, decoder, log_probability, translator

from graphformer.models.generation.beam_search import beam_search
from graphformer.models.generation.logits_rules import LogitsRules
from graphformer.models.generation.sampling import Sampler
from graphformer.models.generation.stopping import StoppingCriteria


class Scripted:
    """A decoder over three tokens whose probabilities are a table by the last token."""

    TABLE = torch.tensor([[0.1, 0.5, 0.4], [0.35, 0.33, 0.32], [0.9, 0.05, 0.05]]).double().log()

    def __init__(self, last: list[int]) -> None:
        self.last = torch.tensor(last)
        self.selected: list[list[int]] = []

    def start(self) -> torch.Tensor:
        return self.TABLE[self.last]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.last = tokens
        return self.start()

    def select(self, rows: torch.Tensor) -> None:
        self.selected.append(rows.tolist())


def sampler(penalty: float = 1.0) -> Sampler:
    return Sampler(
        temperature=0, top_k=None, top_p=None, repetition_penalty=penalty, seed=0, seed_keys=[]
    )


def search(prompts, num_beams, *, count=2, eos=None, length_penalty=0.0, penalty=1.0, **settings):
    scripted = Scripted([prompt[-1] for prompt in prompts])
    stopping, rules = StoppingCriteria(eos, (), count), LogitsRules(count, eos, **settings)
    return beam_search(
        scripted, prompts, num_beams, sampler(penalty), rules, stopping, length_penalty
    )


def test_rules_apply_to_beams():
    """After 0: 1, 2 (0.5 * 0.32) beats 2, 1 (0.4 * 0.05); a forced token has probability 1."""
    assert search([[0]], 3, no_repeat_ngram_size=1) == [[0, 1, 2]]
    assert search([[0], [0, 2]], 2, forced_bos_token_id=1) == [[0, 1, 0], [0, 2, 0, 1]]
    assert search([[0]], 3, forced_eos_token_id=[2]) == [[0, 1, 2]]
    assert search([[0]], 3, suppress_tokens=[1, 2]) == [[0, 0, 0]]


def test_a_beam_finds_what_greedy_search_misses():
    """After 0: greedy takes 1 (0.5 * 0.35); the best pair is 2, 0 (0.4 * 0.9)."""
    assert search([[0]], 1) == [[0, 1, 0]]
    assert search([[0]], 2) == [[0, 2, 0]]


def test_a_complete_text_leaves_the_beams():
    """Token 1 ends a text: 0.5 alone beats every pair without a length penalty."""
    assert search([[0]], 2, eos=1) == [[0, 1]]
    # Per token, log 0.36 / 2 = -0.51 beats log 0.5 = -0.69.
    assert search([[0]], 2, eos=1, length_penalty=1.0) == [[0, 2, 0]]


def test_prompts_are_searched_each_by_itself():
    prompts = [[0], [2], [1, 0]]
    assert search(prompts, 2, count=3) == [search([prompt], 2, count=3)[0] for prompt in prompts]


def test_rows_follow_their_parents():
    scripted = Scripted([0])
    beam_search(scripted, [[0]], 2, sampler(), LogitsRules(3), StoppingCriteria(None, (), 3), 0.0)
    # The prompt becomes two beams, 1 and 2; their best continuations are 2-0 and 1-0.
    assert scripted.selected[0] == [0, 0]
    assert scripted.selected[1] == [1, 0]


def test_the_repetition_penalty_changes_the_result():
    # 0.4 * 0.9^20 for the repeated token falls below 0.5 * 0.32.
    assert search([[0]], 2, penalty=20.0) == [[0, 1, 2]]


@pytest.mark.parametrize("eos_token_id", [None, 2])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_enough_beams_equal_exhaustive_search(eos_token_id, length_penalty):
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
    found = model.generate(
        prompt,
        max_new_tokens=count,
        eos_token_id=eos_token_id,
        length_penalty=length_penalty,
        num_beams=vocab**count,
    )
    assert found == [*prompt, *best]


def test_cached_beams_equal_uncached_ones():
    model = decoder()
    options = {"max_new_tokens": 7, "num_beams": 3, "eos_token_id": 4}
    together = model.generate(PROMPTS, **options)
    assert together == model.generate(PROMPTS, cache=False, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    near = model.generate(PROMPTS, adjacency=WINDOW, **options)
    assert near == model.generate(PROMPTS, adjacency=WINDOW, cache=False, **options)
    assert near != together


def test_beams_are_more_likely_than_greedy_texts():
    model = decoder()
    options = {"max_new_tokens": 7, "eos_token_id": 4}
    beams = model.generate(PROMPTS, num_beams=3, length_penalty=0.0, **options)
    greedy = model.generate(PROMPTS, temperature=0, **options)
    sums = [
        sum(log_probability(model, t, len(p)) for t, p in zip(texts, PROMPTS, strict=True))
        for texts in (beams, greedy)
    ]
    assert sums[0] > sums[1]


def test_beams_of_an_encoder_decoder():
    model = translator()
    options = {"max_new_tokens": 5, "num_beams": 3, "start_id": 0}
    assert model.generate(PROMPTS, **options) == model.generate(PROMPTS, cache=False, **options)
