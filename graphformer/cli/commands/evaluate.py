"""`graphformer evaluate`: zero- and few-shot questions to a trained language model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Ask the questions of a file and print the scores; return 0.

    Raises:
        UsageError: the arguments, the file or the checkpoint are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors
    from graphformer.data.io.tabular import find_file
    from graphformer.tasks.text.few_shot import read_questions, with_shots

    with plain_errors():
        path = find_file(arguments.tasks, arguments.root)
        fields = {"answer": arguments.answer, "options": arguments.options}
        template = arguments.template.replace("\\n", "\n")
        questions = list(read_questions(path, template, **fields))
        examples = questions
        if arguments.examples is not None:
            other = find_file(arguments.examples, arguments.root)
            examples = list(read_questions(other, template, **fields))
        questions = questions[: arguments.limit]
        if not questions:
            raise UsageError(f"evaluate: there are no questions in {path}")
        asked = with_shots(questions, examples, arguments.shots, seed=arguments.seed)
        scores = _answer(find_checkpoint(arguments.ckpt, "evaluate"), asked, arguments)
    print_metrics([scores], f"{path.name}, {len(asked)} questions, {arguments.shots} shots")
    return 0


def _answer(ckpt: Path, questions: list, arguments: argparse.Namespace) -> dict[str, float]:
    from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
    from graphformer.models import EncoderDecoder, Model
    from graphformer.models.text.recurrent import RecurrentModel
    from graphformer.tasks.text.few_shot import choose, grade, write_answers

    task, tokenizer = restore_task(ckpt), restore_text_tokenizer(ckpt)
    if arguments.options is not None:
        longest = arguments.max_length
        return choose(task.network, task.adjacency, tokenizer, questions, max_length=longest)
    if not isinstance(task.network, EncoderDecoder | Model | RecurrentModel):
        raise UsageError(f"evaluate: the network of {ckpt} generates no text: give --options")
    answers = write_answers(
        task.network,
        task.adjacency,
        tokenizer,
        [question.prompt for question in questions],
        max_new_tokens=arguments.max_new_tokens,
        max_length=arguments.max_length,
        temperature=arguments.temperature,
        stop=arguments.stop.replace("\\n", "\n"),
        seed=arguments.seed,
    )
    if arguments.show:
        for question, answer in zip(questions, answers, strict=True):
            print(f"{question.prompt}\n  answer:    {answer}\n  reference: {question.answer}\n")
    return grade(answers, [question.answer for question in questions], extract=arguments.extract)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"evaluate: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="graphformer evaluate",
        description="Ask a language model the questions of a file: JSON lines, .tsv or .csv.",
    )
    parser.add_argument("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument("--tasks", required=True, help="a question a line")
    parser.add_argument("--template", required=True, help="the prompt, fields in braces")
    parser.add_argument("--answer", default="answer", help="field of the right answer")
    parser.add_argument(
        "--options", help="field of the list to choose from, or a,b,c; else it generates"
    )
    parser.add_argument("--shots", type=int, default=0, help="answered examples before each")
    parser.add_argument("--examples", help="file that these are drawn from; else --tasks")
    parser.add_argument("--limit", type=int, help="ask only so many")
    parser.add_argument("--extract", help="regular expression of what counts in an answer")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token")
    parser.add_argument("--max-length", type=int, help="look at so many tokens, the last ones")
    parser.add_argument("--stop", default="\n\n", help="an answer ends here")
    parser.add_argument("--show", action="store_true", help="print the answers")
    parser.add_argument("--seed", type=int, default=0, help="of the examples drawn")
    parser.add_argument("--root", help="the data root")
    arguments = parser.parse_args(list(argv))
    for name, least in (("shots", 0), ("limit", 1), ("max_length", 1)):
        given = getattr(arguments, name)
        if given is not None and given < least:
            option = name.replace("_", "-")
            raise UsageError(f"evaluate: --{option} must be {least} or more, got {given}")
    return arguments
