"""`graphformer evaluate --prompts` and `graphformer safety`: answers without a reference.

Refusals, toxicity, leaks and rewards of the answers of one model, or of two beside each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, number, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.tasks.post_training.rewards import Completion


def main(argv: Sequence[str], *, command: str = "safety") -> int:
    """Print a report on the answers to a file of prompts; return 0.

    Args:
        argv: the options.
        command: under which they were given, for messages.

    Raises:
        UsageError: when the arguments, the files or the checkpoints are wrong.
    """
    arguments = _parse(argv, command)
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors

    with plain_errors():
        prompts = read_prompt_list(arguments.prompts, arguments.field, arguments.root)
        checkpoints = [path for path in (arguments.ckpt, arguments.against) if path is not None]
        completions = [_complete(path, prompts, arguments) for path in checkpoints]
        answers = [[completion.answer for completion in each] for each in completions]
        reports = [_report(each, arguments) for each in answers]
        if arguments.reward is not None:
            reports = _with_rewards(reports, completions, arguments.reward)
    if arguments.show:
        for prompt, *texts in zip(prompts, *answers, strict=True):
            print("\n  ".join([prompt, *texts]) + "\n")
    for path, report in zip(checkpoints, reports, strict=True):
        print_metrics([report], f"{path}: {len(prompts)} prompts of {arguments.prompts}")
    return 0


def read_prompt_list(name: str, field: str, root: str | None) -> list[str]:
    """Return the prompts of a file: one a line of .txt, else a field of records.

    Raises:
        MissingDataError: when the file does not exist.
        UsageError: when it has no prompts.
        ValueError: when a record lacks the field; the message names the line.
    """
    from graphformer.data.io.tabular import find_records, get_text, read_lines, read_records

    path = find_records(name, root)
    if path.suffix == ".txt":
        prompts = [line for _, line in read_lines(path)]
    else:
        prompts = [get_text(record, field, path, n) for n, record in read_records(path)]
    if not prompts:
        raise UsageError(f"--prompts: got {path}, which has none, expected one a line")
    return prompts


def _complete(ckpt: str, prompts: list[str], arguments: argparse.Namespace) -> list[Completion]:
    """Return the answers of a model, with their token ids if a reward may read them."""
    from graphformer.cli.checkpoints import chat_encoder, load_text_model
    from graphformer.tasks.post_training.rewards import Completion
    from graphformer.tasks.post_training.sampling import text_completion
    from graphformer.tasks.text.few_shot import generate_answers

    network, adjacency, tokenizer = load_text_model(ckpt, arguments.command)
    if arguments.chat:
        chat_encoder(tokenizer)
    answers = generate_answers(
        network,
        adjacency,
        tokenizer,
        prompts,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        chat=arguments.chat,
        stop="",
        seed=arguments.seed,
    )
    pairs = zip(prompts, answers, strict=True)
    if arguments.reward is None:
        return [Completion(prompt, answer, "", [], 0, False) for prompt, answer in pairs]
    return [text_completion(tokenizer, *pair, chat=arguments.chat) for pair in pairs]


def _report(answers: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    from graphformer.cli.commands.sample import load_callable
    from graphformer.tasks.text.safety import Lexicon, safety_report

    toxicity = None
    if arguments.toxicity is not None:
        is_file = Path(arguments.toxicity).expanduser().is_file()
        found = Lexicon if is_file else load_callable
        toxicity = found(arguments.toxicity)
    secrets = []
    if arguments.secrets is not None:
        secrets = read_prompt_list(arguments.secrets, "text", arguments.root)
    return safety_report(answers, toxicity=toxicity, secrets=secrets)


def _with_rewards(
    reports: list[dict[str, float]], completions: list[list[Completion]], spec: str
) -> list[dict[str, float]]:
    """Return the reports with mean rewards, and the win rate of each of two models."""
    from graphformer.cli.commands.sample import load_reward
    from graphformer.tasks.post_training.reward_values import compute_rewards

    reward = load_reward(spec)
    rewards = [compute_rewards(reward, each) for each in completions]
    for report, own in zip(reports, rewards, strict=True):
        report["reward"] = float(own.mean())
    if len(rewards) == 2:
        difference = rewards[0] - rewards[1]
        reports[0]["win_rate"] = float((difference.sign() + 1).mean() / 2)
        reports[1]["win_rate"] = 1 - reports[0]["win_rate"]
    return reports


def _parse(argv: Sequence[str], command: str) -> argparse.Namespace:
    parser = CommandParser(
        command,
        "Report refusals, toxicity, leaks and rewards of answers, of one or two models. "
        "`graphformer safety` and `graphformer evaluate --prompts` are the same.",
    )
    parser.set_defaults(command=command)
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, a run's or a Hugging Face folder")
    add("--against", help="a second model, such as that before tuning")
    add("--prompts", required=True, help=".txt with one prompt a line, or JSON lines or a table")
    add("--field", default="prompt", help="field of the prompt")
    add("--toxicity", help="file of words, or class path of a callable of texts")
    add("--secrets", help="file of texts that no answer should contain")
    add("--reward", help="class path of a reward, for means and the win rate; or YAML")
    add("--chat", action="store_true", help="ask by the model's chat template")
    add("--max-new-tokens", type=whole_number(1), default=64)
    add("--temperature", type=number(0), default=0.0, help="0: the most likely token")
    add("--show", action="store_true", help="print the answers")
    add("--seed", type=whole_number(0), default=0)
    add("--root", help="the data root")
    return parser.parse_args(list(argv))
