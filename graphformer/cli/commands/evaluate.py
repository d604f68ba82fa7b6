"""`graphformer evaluate`: questions of --tasks with right answers, or --prompts without."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.tasks.text.few_shot import Question


def main(argv: Sequence[str]) -> int:
    """Answer the questions of a file and print the scores; return 0.

    With `--prompts` it is `commands.safety`, whose answers need no reference.

    Raises:
        UsageError: when the arguments, the file or the checkpoint are wrong.
    """
    if any(argument.partition("=")[0] == "--prompts" for argument in argv):
        from graphformer.cli.commands import safety

        return safety.main(argv, command="evaluate")
    arguments = _parse(argv)
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors
    from graphformer.data.io.tabular import find_file

    with plain_errors():
        path = find_file(arguments.tasks, arguments.root)
        questions = _prompted_questions(path, arguments)
        scores = _scores(questions, arguments)
    print_metrics([scores], f"{path.name}, {len(questions)} questions, {arguments.shots} shots")
    return 0


def _prompted_questions(path: Path, arguments: argparse.Namespace) -> list[Question]:
    """Read the questions, each with answered examples before it."""
    from graphformer.data.io.tabular import find_file
    from graphformer.tasks.text.few_shot import read_questions, with_shots

    fields = {"answer": arguments.answer, "options": arguments.options}
    template = arguments.template.replace("\\n", "\n")
    questions = list(read_questions(path, template, **fields))
    examples = questions
    if arguments.examples is not None:
        examples_path = find_file(arguments.examples, arguments.root)
        examples = list(read_questions(examples_path, template, **fields))
    questions = questions[: arguments.limit]
    if not questions:
        raise UsageError(f"evaluate: there are no questions in {path}")
    return with_shots(
        questions, examples, arguments.shots, seed=arguments.seed, chat=arguments.chat
    )


def _scores(questions: list[Question], arguments: argparse.Namespace) -> dict[str, float]:
    """Score options where `--options` is given, otherwise generated answers."""
    from graphformer.cli.checkpoints import chat_encoder, load_text_model
    from graphformer.models import EncoderDecoder, Model
    from graphformer.models.text.recurrent import RecurrentModel
    from graphformer.tasks.text.few_shot import (
        ReadingOptions,
        evaluate_options,
        generate_answers,
        grade,
    )
    from graphformer.tasks.text.pass_at_k import evaluate_samples, same_number

    network, adjacency, tokenizer = load_text_model(arguments.ckpt, "evaluate")
    if arguments.chat:
        chat_encoder(tokenizer)
    options: ReadingOptions = {"max_length": arguments.max_length, "chat": arguments.chat}
    if arguments.options is not None:
        return evaluate_options(network, adjacency, tokenizer, questions, **options)
    if not isinstance(network, EncoderDecoder | Model | RecurrentModel):
        raise UsageError(
            f"evaluate: the network of {arguments.ckpt} does not generate text: set --options"
        )
    samples = [
        generate_answers(
            network,
            adjacency,
            tokenizer,
            questions,
            max_new_tokens=arguments.max_new_tokens,
            temperature=arguments.temperature,
            stop=arguments.stop.replace("\\n", "\n"),
            seed=arguments.seed + number,
            **options,
        )
        for number in range(arguments.samples)
    ]
    answers, references = samples[0], [question.answer for question in questions]
    if arguments.show:
        for question, answer in zip(questions, answers, strict=True):
            print(f"{question.prompt}\n  answer:    {answer}\n  reference: {question.answer}\n")
    scores = grade(answers, references, extract=arguments.extract)
    if arguments.flexible:
        right = sum(map(same_number, answers, references))
        scores["flexible_match"] = right / len(references)
    ks = arguments.pass_at
    return scores | evaluate_samples(samples, references, ks, extract=arguments.extract)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "evaluate",
        "Evaluate a language model on the questions of a JSON-lines, .tsv or .csv file. Or, with "
        "--prompts FILE instead of --tasks, report refusals, toxicity and leaks of its answers, "
        "and rewards and win rates of two models: graphformer evaluate --prompts FILE --help.",
    )
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, a run's or a Hugging Face folder")
    add("--tasks", required=True, help="the file, one question per record")
    add("--template", required=True, help="the prompt, with fields in braces")
    add("--answer", default="answer", help="field of the right answer")
    add("--options", help="field of the list of options, or a,b,c; otherwise answers are generated")
    add("--shots", type=whole_number(0), default=0, help="number of answered examples before each")
    add("--examples", help="file of the examples; otherwise --tasks")
    add("--limit", type=whole_number(1), help="maximum number of questions")
    add("--extract", help="regular expression of the part of an answer that is compared")
    add("--flexible", action="store_true", help="also compare the last numbers of the texts")
    add("--samples", type=whole_number(1), default=1, help="number of answers to a question")
    add("--pass-at", type=whole_number(1), nargs="+", default=[], help="each k of pass@k")
    add("--max-new-tokens", type=int, default=64, help="maximum number of tokens of an answer")
    add("--temperature", type=float, default=0.0, help="0: the most likely token")
    add("--max-length", type=whole_number(1), help="number of last tokens that the network reads")
    add("--chat", action="store_true", help="ask each question by the model's chat template")
    add("--stop", default="\\n\\n", help="ends an answer")
    add("--show", action="store_true", help="print the answers")
    add("--seed", type=int, default=0, help="of the choice of examples")
    add("--root", help="the data root")
    arguments = parser.parse_args(list(argv))
    if max(arguments.pass_at, default=1) > arguments.samples:
        raise UsageError(
            f"evaluate: --pass-at: got {max(arguments.pass_at)} with {arguments.samples} samples, "
            "expected at most as many; raise --samples"
        )
    if arguments.samples > 1 and not arguments.temperature:
        raise UsageError("evaluate: --samples: got several at temperature 0; set --temperature")
    return arguments
