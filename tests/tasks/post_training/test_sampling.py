"""Sampled answers: order, end tokens, seeds."""

from __future__ import annotations

import torch
from helpers.preferences import policy
from helpers.rollouts import EOS, TOKENIZER, Prompts

from graphformer.data import train_tokenizer
from graphformer.data.text.post_training.chat_template import SHIPPED
from graphformer.patterns import Causal
from graphformer.tasks.post_training.rewards import Completion
from graphformer.tasks.post_training.rollouts import pack_answers
from graphformer.tasks.post_training.sampling import (
    end_token_ids,
    sample_completions,
    select_best,
    text_completion,
)


def sample(seed: int = 3, group_size: int = 2, temperature: float = 1.0):
    batch = next(iter(Prompts().val_dataloader()))
    return batch, sample_completions(
        policy(), Causal(), TOKENIZER, batch,
        group_size=group_size, max_new_tokens=5, temperature=temperature, seed=(seed,),
    )  # fmt: skip


def test_answers_to_a_prompt_are_in_a_row() -> None:
    batch, found = sample()
    assert [c.prompt for c in found] == ["a", "a", "bc", "bc", "def", "def"]
    assert [c.reference for c in found] == ["a", "a", "cb", "cb", "fed", "fed"]
    prompts = batch.x.split(list(batch.lengths))
    for number, completion in enumerate(found):
        prompt = prompts[number // 2].tolist()
        assert completion.ids[: completion.prompt_length] == prompt
        answer = completion.ids[len(prompt) :]
        assert completion.ended == (answer[-1] == EOS)
        assert len(answer) == 5 or completion.ended
        assert completion.answer == TOKENIZER.decode(answer)


def test_an_end_token_inside_a_prompt_and_answers_that_are_cut_off() -> None:
    batch = next(iter(Prompts().val_dataloader()))
    batch.x = torch.where(batch.x == 11, EOS, batch.x)  # prompts that begin with <eos>
    found = sample_completions(
        policy(), Causal(), TOKENIZER, batch,
        group_size=7, max_new_tokens=1, temperature=3.0, seed=(1,),
    )  # fmt: skip
    assert {len(c.ids) - c.prompt_length for c in found} == {1}
    assert {c.ended for c in found} == {True, False}
    assert all(c.ended == (c.ids[-1] == EOS) for c in found)
    packed = pack_answers([c.ids for c in found], [c.prompt_length for c in found])
    assert packed.y[packed.y != -100].tolist() == [c.ids[-1] for c in found]


def test_seeds() -> None:
    assert sample()[1] == sample()[1]
    assert sample()[1] != sample(4)[1]
    greedy = sample(temperature=0.0)[1]
    assert greedy[0].ids == greedy[1].ids


def test_end_tokens() -> None:
    assert end_token_ids(TOKENIZER) == [EOS]
    tokenizer = train_tokenizer("bytes", [])
    tokenizer.chat_template = SHIPPED["turns"]
    assert end_token_ids(tokenizer) == [tokenizer.eos_id]
    assert end_token_ids(train_tokenizer("bytes", [], special_tokens=())) == []
    assert torch.is_tensor(tokenizer.encode("a"))


def test_the_best_answers() -> None:
    _, found = sample(group_size=4)
    rewards = torch.tensor([0.1, 0.4, 0.3, 0.2, 0.0, 0.0, 0.0, 0.0, 0.9, 0.8, 0.7, 0.6])
    assert select_best(found, rewards, 4) == [1, 4, 8]
    assert select_best(found, rewards, 4, share=0.25) == [8, 9, 10]
    same = [found[0]] * 4 + found[4:]  # equal answers count once
    assert select_best(same, rewards, 4)[0] == 0


def test_a_share_of_equal_rewards_is_of_all_prompts() -> None:
    answers = [Completion("", "", "", [i], 0, True) for i in range(12)]  # 3 prompts, 4 answers each
    rewards = torch.tensor([1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0.0])
    assert select_best(answers, rewards, 4, share=0.25) == [0, 5, 10]
    assert select_best(answers, rewards, 4, share=0.4) == [0, 1, 5, 7, 10]
    assert select_best(answers, rewards, 4) == [0, 5, 10]


def test_texts_as_completions() -> None:
    tokenizer = train_tokenizer("bytes", [])
    plain = text_completion(tokenizer, "ab", "cde", chat=False)
    assert plain.ids[plain.prompt_length :] == list(b"cde")
    tokenizer.chat_template = SHIPPED["turns"]
    found = text_completion(tokenizer, "ab", "cde", chat=True)
    assert tokenizer.decode(found.ids) == "User: ab\n\nAssistant: cde"
    assert tokenizer.decode(found.ids[found.prompt_length :]) == " cde"
    assert found.ids[-1] == tokenizer.eos_id
