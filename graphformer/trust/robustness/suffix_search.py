"""Adversarial suffixes of the prompts of a language model, from text to text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from graphformer.data import Tokenizer
from graphformer.models import Model
from graphformer.models.generation import max_length
from graphformer.tasks.text.few_shot import Question, TextModel, prompt_ids
from graphformer.trust.robustness.suffixes import SuffixAttack, find_suffix

LENGTH = 10
"""Tokens of a suffix."""


class PromptAttack(NamedTuple):
    """The suffix that was found for a prompt."""

    prompt: str
    suffix: str
    attack: SuffixAttack
    is_text: bool
    """Whether the suffix as text has the tokens that were found, so that a user can write it."""


def attack_prompts(
    model: TextModel,
    prompts: Sequence[str],
    *,
    target: str,
    steps: int,
    chat: bool = False,
    seed: int = 0,
) -> Iterator[PromptAttack]:
    """Yield for each prompt a suffix after which the answer begins with the target, if found.

    Suffixes have `LENGTH` tokens that are printable as text. A prompt that is too long for the
    positions of the network is cut at its beginning.

    Args:
        model: a decoder with its adjacency and tokenizer.
        prompts: texts.
        target: beginning of the answer.
        steps: of `find_suffix`.
        chat: whether a prompt is a user's message in the chat template of the tokenizer.
        seed: of the search.

    Raises:
        TypeError: when the network is no decoder of this package.
        ValueError: when a prompt or the target has no tokens.
    """
    network, adjacency, tokenizer = model
    if not isinstance(network, Model):
        raise TypeError(
            f"model: got {type(network).__name__}, expected a decoder, Model; choose another run"
        )
    allowed = printable_tokens(tokenizer)
    goal = target_ids(tokenizer, target, chat=chat)
    for prompt in prompts:
        head, tail = _around_suffix(tokenizer, prompt, chat)
        limit = max_length(network)
        if limit is not None:
            head = head[max(0, len(head) + LENGTH + len(tail) + len(goal) - limit) :]
        found = find_suffix(
            network, head, goal, initial=allowed[:1] * LENGTH, tail=tail, allowed=allowed,
            adjacency=adjacency, steps=steps, seed=seed,
        )  # fmt: skip
        text = tokenizer.decode(found.suffix)
        is_text = tokenizer.encode_plain([text])[0].tolist() == found.suffix
        yield PromptAttack(prompt, text, found, is_text)


def target_ids(tokenizer: Tokenizer, target: str, *, chat: bool = False) -> list[int]:
    """Return the token ids of the beginning of an answer, behind a prompt or a chat's message.

    Raises:
        ValueError: when it has an unknown character.
    """
    ids: list[int] = tokenizer.encode_plain([target if chat else f" {target}"])[0].tolist()
    return ids


def printable_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the ids whose text is printable and not blank, without special tokens."""
    ids = [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
    texts = tokenizer.backend.decode_batch([[i] for i in ids])
    return [
        i
        for i, text in zip(ids, texts, strict=True)
        if text.strip() and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text
    ]


def _around_suffix(tokenizer: Tokenizer, prompt: str, chat: bool) -> tuple[list[int], list[int]]:
    """Return the token ids before a suffix of the prompt, and those behind it.

    Behind it is what the chat template writes after any message: the end that the token ids of two
    messages with different last words share.
    """
    ids = prompt_ids(tokenizer, Question(prompt, ""), chat=chat)
    if not chat:
        return ids, []
    last = "b" if prompt.endswith("a") else "a"
    other = prompt_ids(tokenizer, Question(f"{prompt} {last}", ""), chat=True)
    pairs = zip(reversed(ids), reversed(other), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ids[: len(ids) - shared], ids[len(ids) - shared :]
