"""Answers that a policy samples to prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from graphformer.batch_type import BatchLike
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.models import generate
from graphformer.models.generation import decoding_options
from graphformer.patterns import Pattern, lengths
from graphformer.tasks.post_training.rewards import Completion


def end_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's, and that of its chat template."""
    if tokenizer.chat_template is not None:
        return ChatEncoder.of_tokenizer(tokenizer).end_ids()
    return [] if tokenizer.eos_id is None else [tokenizer.eos_id]


def sample_completions(
    network: nn.Module,
    adjacency: Pattern,
    tokenizer: Tokenizer,
    batch: BatchLike,
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    seed: Sequence[int],
) -> list[Completion]:
    """Return `group_size` answers to each prompt of a batch, the answers to a prompt in a row.

    Args:
        network: the policy, which has logits over the tokenizer's vocabulary.
        adjacency: pattern of the edges of attention; causal.
        tokenizer: of the network.
        batch: with prompts in x [N] and lengths, and the texts `prompts` and `references`; see
            `PromptFile`.
        group_size: number of answers to a prompt.
        max_new_tokens: maximum number of tokens of an answer, its end included.
        temperature: of sampling; 0 selects the likeliest tokens.
        seed: of the random streams, non-negative integers.
    """
    prompts = [ids.tolist() for ids in batch.x.split(list(lengths(batch)))]
    ends = end_token_ids(tokenizer)
    rows = [prompt for prompt in prompts for _ in range(group_size)]
    texts = generate(
        network,
        rows,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        eos_token_id=ends,
        seed=int(np.random.SeedSequence(list(seed)).generate_state(1)[0]),
        **decoding_options(network, adjacency),
    )
    completions = []
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        answer = text[len(row) :]
        completions.append(
            Completion(
                prompt=batch.prompts[number // group_size],
                answer=tokenizer.decode(answer).strip(),
                reference=batch.references[number // group_size],
                ids=text,
                prompt_length=len(row),
                ended=answer[-1] in ends,
            )
        )
    return completions


def text_completion(tokenizer: Tokenizer, prompt: str, answer: str, *, chat: bool) -> Completion:
    """Return an answer that is a text as a `Completion`, with the token ids of prompt and answer.

    Args:
        tokenizer: of the policy.
        prompt, answer: texts.
        chat: whether they are turns of the tokenizer's chat template. The ids then end as in
            `PreferenceFile`, with the template's end of an answer.

    Raises:
        ValueError: when chat is true and there is no chat template, or it has no generation marks.
    """
    if not chat:
        start = tokenizer.encode_prompt(prompt).tolist()
        ids = start + tokenizer.encode_plain([answer])[0].tolist()
        return Completion(prompt, answer, "", ids, len(start), ended=False)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    encoded = ChatEncoder.of_tokenizer(tokenizer).encode(messages)
    marked = np.flatnonzero(encoded.is_answer)
    ids = encoded.ids[: int(marked[-1]) + 1].tolist()
    return Completion(prompt, answer, "", ids, int(marked[0]), ended=True)


def select_best(
    completions: Sequence[Completion],
    rewards: Tensor,
    group_size: int,
    *,
    share: float | None = None,
) -> list[int]:
    """Return the numbers of the best answers, ascending: rejection sampling.

    Equal answers to a prompt count once, the first of them. Of equal rewards those come first that
    are the best to their prompt, then the second best, so that a share is not of the first prompts.

    Args:
        completions: those to a prompt in a row.
        rewards: of the answers, [B].
        group_size: number of answers to a prompt.
        share: of all distinct answers, those with the largest rewards; None: one to each prompt.
    """
    first: dict[tuple[int, ...], int] = {}
    for i, completion in enumerate(completions):
        first.setdefault((i // group_size, *completion.ids), i)
    values = rewards.tolist()
    order = sorted(first.values(), key=lambda i: -values[i])
    rank: dict[int, int] = {}  # of an answer among those to its prompt
    seen: Counter[int] = Counter()
    for i in order:
        rank[i] = seen[i // group_size]
        seen[i // group_size] += 1
    if share is None:
        return sorted(i for i in order if rank[i] == 0)
    order.sort(key=lambda i: (-values[i], rank[i]))
    return sorted(order[: max(1, round(share * len(order)))])
