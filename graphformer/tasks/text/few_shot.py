"""Zero- and few-shot evaluation of language models: scores of options, generated answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.data.batch import pack_tokens
from graphformer.data.io.tabular import get_field, get_text, read_records
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.records import fill
from graphformer.models import EncoderDecoder, generate
from graphformer.models.generation import decoding_options, with_defaults
from graphformer.models.generation import max_length as num_positions
from graphformer.patterns import Pattern
from graphformer.tasks.metrics import bleu, exact_match, token_f1

if TYPE_CHECKING:
    from graphformer.data import Tokenizer


_PROMPTS_PER_BATCH = 64


class ReadingOptions(TypedDict, total=False):
    """Keyword arguments of how a network reads prompts, see `score_options`."""

    max_length: int | None
    chat: bool


class TextModel(NamedTuple):
    """A trained model of texts."""

    network: nn.Module
    adjacency: Pattern
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Question:
    """A prompt with the reference answer, and the options to choose from if there are any."""

    prompt: str
    answer: str
    options: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    """Prompts and answers of examples, as turns of a chat before the prompt."""


def read_questions(
    path: Path, template: str, *, answer: str = "answer", options: str | None = None
) -> Iterator[Question]:
    """Yield the questions of a file of JSON lines or of a table.

    Args:
        path: of the file.
        template: the prompt, with the names of a record's fields in braces.
        answer: name of the field of the reference answer, which is a text, or with options also
            the number of one, from 0, or the name of its field. A number names a column, from 0, of
            a table without a header.
        options: name of the field with the list of options, or names of one field for each option,
            separated by commas; None: the questions have no options.

    Raises:
        ValueError: when a record lacks a field, or when its answer is no option; the message names
            the file and line.
    """
    for number, record in read_records(path, header=not answer.isdigit()):
        reference = get_text(record, answer, path, number)
        choices: tuple[str, ...] = ()
        if options is not None:
            names = options.split(",")
            choices = _options(record, names, path, number)
            by_name = {str(i): option for i, option in enumerate(choices)}
            if len(names) > 1:
                by_name |= dict(zip(names, choices, strict=True))
            if reference not in choices or isinstance(record[answer], int):
                reference = by_name.get(reference, reference)
            if reference not in choices:
                raise ValueError(
                    f"{path}, line {number}: {answer!r} is {reference!r}, which is neither one of "
                    f"the {len(choices)} options nor the number of one, from 0"
                )
        yield Question(fill(template, record, path, number), reference, choices)


def _options(record: dict[str, Any], names: list[str], path: Path, number: int) -> tuple[str, ...]:
    if len(names) > 1:
        return tuple(get_text(record, name, path, number) for name in names)
    options = get_field(record, names[0], path, number)
    if not isinstance(options, list) or not options:
        raise ValueError(
            f"{path}, line {number}: {names[0]!r} must be a list of options, got {options!r}; if "
            "each option has a field of its own, name these fields with commas between them"
        )
    return tuple(map(str, options))


def with_shots(
    questions: Sequence[Question],
    examples: Sequence[Question],
    shots: int,
    *,
    seed: int = 0,
    chat: bool = False,
) -> list[Question]:
    """Return the questions with `shots` random answered examples before each, never itself.

    Args:
        questions: without examples.
        examples: to choose from.
        shots: number of examples for a question.
        seed: of the choice.
        chat: whether the examples are turns of a chat, rather than part of the prompt.

    Raises:
        ValueError: when shots is negative, or when there are not enough examples.
    """
    if shots < 0:
        raise ValueError(f"shots: got {shots}, expected 0 or more")
    generator, result = np.random.default_rng(seed), []
    for question in questions:
        others = [example for example in examples if example.prompt != question.prompt]
        if len(others) < shots:
            raise ValueError(f"shots: got {shots}, but there are only {len(others)} other examples")
        chosen = generator.permutation(len(others))[:shots]
        turns = tuple((others[i].prompt, others[i].answer) for i in chosen)
        before = "" if chat else "".join(f"{prompt} {answer}\n\n" for prompt, answer in turns)
        shown = turns if chat else ()
        result.append(Question(before + question.prompt, question.answer, question.options, shown))
    return result


@torch.no_grad()
def score_options(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    question: Question,
    *,
    max_length: int | None = None,
    chat: bool = False,
) -> Tensor:
    """Return log P(option | prompt) of each option, in nats, [options].

    Options are tokenized as continuations of the prompt, without special tokens, and pass through
    the network in one batch.

    Args:
        network: computes logits over the vocabulary, [N, K].
        pattern: of the edges of attention; causal.
        tokenizer: of the network.
        question: with options.
        max_length: maximum number of tokens of the network's input, by default its number of
            positions; a longer prompt is cut at its beginning.
        chat: whether the prompt is a user's message in the chat template of the tokenizer.

    Raises:
        ValueError: when the prompt or an option has no tokens, or there is no chat template.
    """
    prompt, options = question_ids(tokenizer, question, chat=chat)
    limit = max_length or num_positions(network) or 1 << 62
    rows = [np.concatenate([prompt, option])[-limit - 1 :] for option in options]
    device = next(network.parameters()).device
    batch = pack_tokens([row[:-1] for row in rows], device=device)
    log_p = network(batch, pattern(batch)).float().log_softmax(-1)
    labels = torch.from_numpy(np.concatenate([row[1:] for row in rows])).to(device)
    by_token = log_p.gather(1, labels.unsqueeze(1)).squeeze(1).split([len(r) - 1 for r in rows])
    scores = [row[-len(option) :].sum() for row, option in zip(by_token, options, strict=True)]
    return torch.stack(scores).cpu()


def question_ids(
    tokenizer: Tokenizer, question: Question, *, chat: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the token ids of a prompt and of each of its options, int64.

    Args:
        tokenizer: of the network.
        question: with options.
        chat: whether the prompt is a user's message in the chat template of the tokenizer.

    Raises:
        ValueError: when the prompt or an option has no tokens or an unknown character, or there is
            no chat template.
    """
    prompt = np.array(prompt_ids(tokenizer, question, chat=chat), np.int64)
    texts = [option if chat else f" {option}" for option in question.options]
    options = [ids.numpy() for ids in tokenizer.encode_plain(texts)]
    if not len(prompt) or not all(map(len, options)):
        raise ValueError(
            f"question: got a prompt or an option without tokens, {question.prompt!r} with options "
            f"{list(question.options)}; fill them in, or remove the question"
        )
    return prompt, options


def evaluate_options(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    **reading: Unpack[ReadingOptions],
) -> dict[str, float]:
    """Return the share of questions whose likeliest option is the reference answer.

    "accuracy" compares log-likelihoods, "accuracy_per_byte" log-likelihoods divided by the length
    of the option in bytes. The arguments are those of `score_options`.

    Source: Brown et al., 2020, section 2.4.
    """
    correct, correct_per_byte, count = 0, 0, 0
    for question in questions:
        scores = score_options(network, pattern, tokenizer, question, **reading)
        sizes = torch.tensor([max(1, len(option.encode())) for option in question.options])
        reference = question.options.index(question.answer)
        correct += int(scores.argmax()) == reference
        correct_per_byte += int((scores / sizes).argmax()) == reference
        count += 1
    count = max(1, count)
    return {"accuracy": correct / count, "accuracy_per_byte": correct_per_byte / count}


def generate_answers(
    network: nn.Module,
    pattern: Pattern,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Question],
    *,
    max_new_tokens: int,
    max_length: int | None = None,
    chat: bool = False,
    temperature: float = 0.0,
    stop: str = "\n\n",
    seed: int = 0,
) -> list[str]:
    """Return the text that a language model or an encoder-decoder generates for each prompt.

    Args:
        network: has a method `generate`.
        pattern: of the edges of attention among generated tokens.
        tokenizer: of the network.
        prompts: texts, or questions whose examples become turns of a chat; none of them empty.
        max_new_tokens: maximum number of tokens of an answer.
        max_length, chat: as for `score_options`.
        temperature: of sampling; 0 selects the likeliest tokens.
        stop: text at which an answer ends; empty: none.
        seed: of sampling.
    """
    ends = ChatEncoder.of_tokenizer(tokenizer).end_ids() if chat else tokenizer.eos_id
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "eos_token_id": getattr(network, "generation_config", {}).get("eos_token_id", ends),
        "seed": seed,
    }
    questions = [Question(p, "") if isinstance(p, str) else p for p in prompts]
    has_decoder = isinstance(network, EncoderDecoder)
    if has_decoder:  # the prompt is a complete source
        ids = [row.tolist() for row in tokenizer.encode_batch([q.prompt for q in questions])]
        options["start_id"] = first_token(cast(EncoderDecoder, network), tokenizer)
        options |= decoding_options(cast(EncoderDecoder, network).decoder, pattern)
    else:
        ids = [prompt_ids(tokenizer, question, chat=chat) for question in questions]
        options |= decoding_options(network, pattern)
        options["context"] = max_length or options["context"]
        options = {**with_defaults(network, options)}  # type: ignore[arg-type]
    texts = []
    for start in range(0, len(ids), _PROMPTS_PER_BATCH):
        rows = ids[start : start + _PROMPTS_PER_BATCH]
        if has_decoder:
            generated = cast(EncoderDecoder, network).generate(rows, **options)
            texts += [tokenizer.decode(out) for out in cast("list[list[int]]", generated)]
        else:
            outputs = generate(network, rows, **options)
            new = [out[len(row) :] for out, row in zip(outputs, rows, strict=True)]
            texts += [tokenizer.decode(out) for out in new]
    return [text.split(stop)[0].strip() if stop else text.strip() for text in texts]


def first_token(network: EncoderDecoder, tokenizer: Tokenizer) -> int:
    """Return the token that begins every target: that of the checkpoint, or <bos>."""
    return tokenizer.need("bos") if network.start_id is None else network.start_id


def prompt_ids(tokenizer: Tokenizer, question: Question, *, chat: bool = False) -> list[int]:
    """Return the token ids that a network reads before it answers.

    Args:
        tokenizer: of the network.
        question: its prompt, and the examples before it.
        chat: whether the prompt is a user's message in the chat template of the tokenizer.
    """
    if not chat:
        return tokenizer.encode_prompt(question.prompt).tolist()
    encoder = ChatEncoder.of_tokenizer(tokenizer)
    turns = [text for pair in question.shots for text in pair] + [question.prompt]
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return encoder.prompt(messages).tolist()


def grade(
    answers: Sequence[str], references: Sequence[str], *, extract: str | None = None
) -> dict[str, float]:
    """Return exact match and F1, from 0 to 1, and BLEU, from 0 to 100, of generated answers.

    Args:
        answers: generated texts.
        references: the reference answers.
        extract: regular expression whose last match is compared for exact match and F1: its first
            group, or all of it. An answer without a match is wrong; a reference without a match is
            compared as a whole.

    Raises:
        ValueError: when `extract` is not a regular expression.
    """
    pairs = []
    for answer, reference in zip(answers, references, strict=True):
        expected = extract_answer(reference, extract)
        pairs.append((extract_answer(answer, extract), reference if expected is None else expected))
    found = [(answer, reference) for answer, reference in pairs if answer is not None]
    count = max(1, len(pairs))
    return {
        "exact_match": sum(exact_match(*pair) for pair in found) / count,
        "f1": sum(token_f1(*pair) for pair in found) / count,
        "bleu": bleu(answers, references),
    }


def extract_answer(text: str, pattern: str | None) -> str | None:
    """Return the last match of a pattern in a text, or None; the text itself without a pattern.

    Args:
        text: to search.
        pattern: regular expression; its first group is returned if it has one.

    Raises:
        ValueError: when the pattern is not a regular expression.
    """
    if pattern is None:
        return text
    try:
        matches = list(re.finditer(pattern, text))
    except re.error as error:
        raise ValueError(
            f"extract: got {pattern!r}, expected a regular expression ({error})"
        ) from None
    if not matches:
        return None
    return str(matches[-1].group(1 if matches[-1].re.groups else 0) or "")
