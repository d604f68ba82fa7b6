"""Zero- and few-shot evaluation of language models: options scored, answers generated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from graphformer.data.io.tabular import get_field, get_text, read_records
from graphformer.data.ragged import Ragged
from graphformer.data.text.records import fill
from graphformer.models import EncoderDecoder, generate
from graphformer.models.generation import decoding_options
from graphformer.models.generation import max_length as own_length
from graphformer.patterns import Pattern
from graphformer.tasks.metrics import bleu, exact_match, token_f1

if TYPE_CHECKING:
    from graphformer.data import Tokenizer


_AT_ONCE = 64  # prompts that are answered side by side


@dataclass(frozen=True)
class Question:
    """A prompt with its right answer, and with options to choose from if there are any."""

    prompt: str
    answer: str
    options: tuple[str, ...] = ()


def read_questions(
    path: Path, template: str, *, answer: str = "answer", options: str | None = None
) -> Iterator[Question]:
    """Yield the questions of a file of JSON lines or a table with a header.

    Args:
        path: the file.
        template: the prompt, with a record's fields in braces.
        answer: name of the field of the right answer: a text, or with options also its number, from
            0, or the name of its field; a number names a column, from 0, of a table without a
            header.
        options: name of the field of the list of options, or with commas between them the names
            of one field an option; None for questions without.

    Raises:
        ValueError: naming the file and line of what is not so.
    """
    for number, record in read_records(path, header=not answer.isdigit()):
        right = get_text(record, answer, path, number)
        given: tuple[str, ...] = ()
        if options is not None:
            names = options.split(",")
            given = _options(record, names, path, number)
            places = {str(i): option for i, option in enumerate(given)}
            if len(names) > 1:
                places |= dict(zip(names, given, strict=True))
            if right not in given or isinstance(record[answer], int):
                right = places.get(right, right)
            if right not in given:
                raise ValueError(
                    f"{path}, line {number}: {answer!r} is {right!r}, which is neither one of the "
                    f"{len(given)} options nor the number of one, from 0."
                )
        yield Question(fill(template, record, path, number), right, given)


def _options(record: dict[str, Any], names: list[str], path: Path, number: int) -> tuple[str, ...]:
    if len(names) > 1:
        return tuple(get_text(record, name, path, number) for name in names)
    listed = get_field(record, names[0], path, number)
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f"{path}, line {number}: {names[0]!r} must be a list of options, got {listed!r}; name "
            "several fields with commas between them if each holds one."
        )
    return tuple(map(str, listed))


def with_shots(
    questions: Sequence[Question], examples: Sequence[Question], shots: int, *, seed: int = 0
) -> list[Question]:
    """Put `shots` answered examples, drawn by chance and never the question itself, before each.

    Raises:
        ValueError: there are not enough examples.
    """
    if shots < 0:
        raise ValueError(f"shots is {shots}: expected 0 or more.")
    generator, result = np.random.default_rng(seed), []
    for question in questions:
        others = [example for example in examples if example.prompt != question.prompt]
        if len(others) < shots:
            raise ValueError(f"shots is {shots}, but there are only {len(others)} other examples.")
        drawn = generator.permutation(len(others))[:shots]
        before = "".join(f"{others[i].prompt} {others[i].answer}\n\n" for i in drawn)
        result.append(Question(before + question.prompt, question.answer, question.options))
    return result


@torch.no_grad()
def score_options(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    question: Question,
    *,
    max_length: int | None = None,
) -> Tensor:
    """Return log P(option | prompt) of each option, in nats, [options].

    All options go through the network in one batch, without padding.

    Args:
        network: logits over the vocabulary, [N, K].
        pattern: who attends to whom; causal.
        tokenizer: of the network.
        question: with options.
        max_length: the most tokens that the network takes, by default as many as it has positions
            for; a longer prompt loses its beginning.

    Raises:
        ValueError: an option, or the prompt, is empty.
    """
    prompt = tokenizer.encode(question.prompt).numpy()
    options = [ids.numpy() for ids in tokenizer.encode_batch([f" {o}" for o in question.options])]
    if not len(prompt) or not all(map(len, options)):
        raise ValueError(f"A prompt or option has no tokens: {question.prompt!r}.")
    longest = max_length or own_length(network) or 1 << 62
    rows = [np.concatenate([prompt, option])[-longest - 1 :] for option in options]
    device = next(network.parameters()).device
    batch = Ragged([row[:-1] for row in rows])[torch.arange(len(rows))].to(device)
    log_p = network(batch, pattern(batch)).float().log_softmax(-1)
    following = torch.from_numpy(np.concatenate([row[1:] for row in rows])).to(device)
    each = log_p.gather(1, following.unsqueeze(1)).squeeze(1).split([len(r) - 1 for r in rows])
    scores = [row[-len(option) :].sum() for row, option in zip(each, options, strict=True)]
    return torch.stack(scores).cpu()


def choose(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    *,
    max_length: int | None = None,
) -> dict[str, float]:
    """Return the share of questions whose likeliest option is right, as it is and by its length.

    "accuracy_per_byte" divides each log-likelihood by the option's bytes. Source: Brown et al.,
    2020, section 2.4.
    """
    right, right_per_byte, count = 0, 0, 0
    for question in questions:
        scores = score_options(network, pattern, tokenizer, question, max_length=max_length)
        sizes = torch.tensor([max(1, len(option.encode())) for option in question.options])
        wanted = question.options.index(question.answer)
        right += int(scores.argmax()) == wanted
        right_per_byte += int((scores / sizes).argmax()) == wanted
        count += 1
    count = max(1, count)
    return {"accuracy": right / count, "accuracy_per_byte": right_per_byte / count}


def write_answers(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    max_length: int | None = None,
    temperature: float = 0.0,
    stop: str = "\n\n",
    seed: int = 0,
) -> list[str]:
    """Return what a language model, or an encoder-decoder, generates for each prompt.

    Args:
        network: with a method `generate`.
        pattern: who attends to whom among what is generated.
        tokenizer: of the network.
        prompts: none empty.
        max_new_tokens: the most tokens of an answer.
        max_length: as for `score_options`.
        temperature: 0 for the likeliest tokens.
        stop: an answer ends where it has this; nothing ends it if it is empty.
        seed: of the draws.
    """
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "eos_token_id": tokenizer.eos_id,
        "seed": seed,
    }
    ids = [row.tolist() for row in tokenizer.encode_batch(list(prompts))]
    if not isinstance(network, EncoderDecoder):
        options |= decoding_options(network, pattern)
        options["context"] = max_length or options["context"]
    texts = []
    for start in range(0, len(ids), _AT_ONCE):
        rows = ids[start : start + _AT_ONCE]
        if isinstance(network, EncoderDecoder):
            begin = tokenizer.need("bos")
            written = network.generate(rows, start_id=begin, adjacency=pattern, **options)
            texts += [tokenizer.decode(out) for out in cast("list[list[int]]", written)]
        else:
            written = generate(network, rows, **options)
            texts += [tokenizer.decode(w[len(row) :]) for w, row in zip(written, rows, strict=True)]
    return [text.split(stop)[0].strip() if stop else text.strip() for text in texts]


def grade(
    answers: Sequence[str], references: Sequence[str], *, extract: str | None = None
) -> dict[str, float]:
    """Return exact match and F1, from 0 to 1, and BLEU, from 0 to 100, of generated answers.

    Args:
        answers: what was generated.
        references: the right answers.
        extract: a regular expression, whose first group (or all of it) in either text is what
            counts for exact match and F1; the last place where it is found.

    Raises:
        ValueError: `extract` is no regular expression.
    """
    pairs = [(_extract(a, extract), _extract(r, extract)) for a, r in zip(answers, references,
             strict=True)]  # fmt: skip
    return {
        "exact_match": sum(exact_match(*pair) for pair in pairs) / max(1, len(pairs)),
        "f1": sum(token_f1(*pair) for pair in pairs) / max(1, len(pairs)),
        "bleu": bleu(answers, references),
    }


def _extract(text: str, pattern: str | None) -> str:
    try:
        found: list[Any] = [] if pattern is None else list(re.finditer(pattern, text))
    except re.error as error:
        raise ValueError(f"extract is {pattern!r}, no regular expression: {error}.") from None
    if not found:
        return text if pattern is None else ""
    return str(found[-1].group(1 if found[-1].re.groups else 0))
