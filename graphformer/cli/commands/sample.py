"""`graphformer sample`: rejection sampling, the best of several answers to each prompt."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphformer.cli.config.command_parser import (
    CommandParser,
    number,
    output_file,
    whole_number,
)
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.data import PromptFile
    from graphformer.tasks.post_training.rewards import Completion, Reward


def main(argv: Sequence[str]) -> int:
    """Write the best answers to the prompts of a file as JSON lines for `ChatFile`; return 0.

    Raises:
        UsageError: when the arguments, the file, the reward or the checkpoint are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.run_dir import write_atomically
    from graphformer.tasks.post_training.reward_values import compute_rewards
    from graphformer.tasks.post_training.sampling import select_best

    with plain_errors():
        reward = load_reward(arguments.reward)
        data = _read(arguments)
        completions = _complete(data, arguments)
        rewards = compute_rewards(reward, completions)
        best = select_best(completions, rewards, arguments.samples, share=arguments.share)
        prompts = data.conversations("test")
        records = [
            {
                "prompt": prompts[i // arguments.samples],
                "completion": [{"role": "assistant", "content": completions[i].answer}],
                "reward": float(rewards[i]),
            }
            for i in best
        ]
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_atomically(arguments.out, "".join(lines))
    means = {"reward of all": rewards.mean(), "reward of the best": rewards[best].mean()}
    scores = {name: float(value) for name, value in means.items()}
    print_metrics([scores], f"{len(best)} of {len(completions)} answers, in {arguments.out}")
    return 0


def load_reward(text: str) -> Reward:
    """Return the reward that `load_callable` finds.

    Raises:
        UsageError: when there is no such callable.
    """
    reward: Reward = load_callable(text, "--reward")
    return reward


def load_callable(text: str, option: str = "--toxicity") -> Callable[..., Any]:
    """Return the callable that a class path, or YAML with class_path and init_args, names.

    Args:
        text: the path or YAML.
        option: of the command line, for messages.

    Raises:
        UsageError: when there is no such callable.
    """
    import yaml
    from jsonargparse import ArgumentError

    from graphformer.cli.config.parser import Parser

    parser = Parser()
    parser.add_argument("--called", type=Callable[[Sequence[Any]], Sequence[float]])
    try:
        parsed = parser.parse_object({"called": yaml.safe_load(text)})
        found: Callable[..., Any] = parser.instantiate(parsed).called
    except (ArgumentError, yaml.YAMLError) as error:
        raise UsageError(
            f"{option}: got {text!r}, expected the path of a function or class, or "
            f"'{{class_path: ..., init_args: {{...}}}}' ({str(error).strip().splitlines()[-1]})"
        ) from None
    return found


def _read(arguments: argparse.Namespace) -> PromptFile:
    """Return the prompts, in the order of the file."""
    from graphformer.data import PromptFile

    data = PromptFile(
        arguments.prompts,
        prompt=arguments.prompt,
        reference=arguments.reference,
        batch_size=max(1, 64 // arguments.samples),
        val_fraction=0.0,
        max_length=arguments.max_length,
        root=arguments.root,
    )
    data.setup()
    data.splits["test"] = data.splits["train"]
    return data


def _complete(data: PromptFile, arguments: argparse.Namespace) -> list[Completion]:
    """Return `--samples` answers to each prompt, in a row."""
    from graphformer.cli.checkpoints import chat_encoder, load_text_model
    from graphformer.tasks.post_training.sampling import sample_completions

    network, adjacency, tokenizer = load_text_model(arguments.ckpt, "sample")
    chat_encoder(tokenizer)
    data.tokenizer = tokenizer
    completions: list[Completion] = []
    for index, batch in enumerate(data.test_dataloader()):
        completions += sample_completions(
            network,
            adjacency,
            tokenizer,
            batch,
            group_size=arguments.samples,
            max_new_tokens=arguments.max_new_tokens,
            temperature=arguments.temperature,
            seed=(arguments.seed, index),
        )
    return completions


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "sample", "Write the best of several sampled answers to each prompt, to train on."
    )
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, a run's or a Hugging Face folder")
    add("--prompts", required=True, help="JSON lines, .tsv or .csv, one prompt per record")
    add("--reward", required=True, help="class path of a reward, or YAML with its arguments")
    add("--out", type=output_file(), required=True, help="the file of JSON lines to write")
    add("--prompt", default="prompt", help="field of the prompt")
    add("--reference", help="field of the reference answer, for the reward")
    add("--samples", type=whole_number(1), default=8, help="number of answers to a prompt")
    add("--share", type=number(0, 1, low_included=False), help="best share of all; else one each")
    add("--max-new-tokens", type=whole_number(1), default=64)
    add("--max-length", type=whole_number(1), default=1024, help="tokens of a prompt")
    add("--temperature", type=number(0, low_included=False), default=1.0)
    add("--seed", type=whole_number(0), default=0)
    add("--root", help="the data root")
    return parser.parse_args(list(argv))
