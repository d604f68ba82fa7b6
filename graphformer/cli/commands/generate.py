"""`graphformer generate`: continues texts with a trained model, shown token by token."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from graphformer.cli.config.command_parser import CommandParser
from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Continue the prompts, or answer them if the model is an encoder-decoder; return 0.

    Raises:
        UsageError: when the arguments or the checkpoint are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.checkpoints import load_text_model
    from graphformer.cli.errors import plain_errors
    from graphformer.models import EncoderDecoder, Model
    from graphformer.models.generation import decoding_options
    from graphformer.models.text.recurrent import RecurrentModel

    with plain_errors():
        network, adjacency, tokenizer = load_text_model(arguments.ckpt, "generate")
        if not isinstance(network, EncoderDecoder | Model | RecurrentModel):
            raise UsageError(f"generate: the network of {arguments.ckpt} does not generate text")
        is_source = isinstance(network, EncoderDecoder)
        prompts = _encode_prompts(arguments, tokenizer, is_source=is_source)
        options = _sampling_options(arguments, network, tokenizer)
        if isinstance(network, EncoderDecoder):
            options |= decoding_options(network.decoder, adjacency)
            _print_answers(network, prompts, tokenizer, arguments.stop, options)
        else:
            options |= decoding_options(network, adjacency)
            _print_continuations(network, prompts, tokenizer, arguments, options)
    return 0


def _encode_prompts(
    arguments: argparse.Namespace, tokenizer: Any, *, is_source: bool
) -> list[list[int]]:
    """Return the ids of each prompt: a text to continue, a message, or an encoder's source."""
    from graphformer.cli.checkpoints import chat_encoder

    if arguments.chat:
        chat = chat_encoder(tokenizer)
        system = [] if arguments.system is None else [("system", arguments.system)]
        conversations = [[*system, ("user", prompt)] for prompt in arguments.prompt]
        return [
            chat.prompt([{"role": role, "content": text} for role, text in messages]).tolist()
            for messages in conversations
        ]
    encode = tokenizer.encode if is_source else tokenizer.encode_prompt
    prompts = [encode(prompt).tolist() for prompt in arguments.prompt]
    if not all(prompts):
        raise UsageError("generate: --prompt: got no tokens, expected at least one")
    return prompts


def _sampling_options(
    arguments: argparse.Namespace, network: Any, tokenizer: Any
) -> dict[str, Any]:
    from graphformer.models.generation import with_defaults

    chosen: dict[str, Any] = {
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "num_beams": arguments.num_beams,
        "seed": arguments.seed,
        "weight_dtype": arguments.weight_dtype,
    }
    if arguments.repetition_penalty is not None:
        chosen["repetition_penalty"] = arguments.repetition_penalty
    return {"eos_token_id": tokenizer.eos_id, **with_defaults(network, chosen)}  # type: ignore[arg-type]


def _print_continuations(
    network: Any,
    prompts: list[list[int]],
    tokenizer: Any,
    arguments: argparse.Namespace,
    options: dict[str, Any],
) -> None:
    """Print each prompt with its continuation; a single one is shown token by token."""
    from graphformer.models import generate

    is_single = len(prompts) == 1 and arguments.num_beams == 1
    show = _write if is_single else _discard
    end = "\n" if arguments.chat else ""  # between a question and its answer
    streamers = [
        TextStreamer(tokenizer, ids, prompt + end, arguments.stop, show)
        for ids, prompt in zip(prompts, arguments.prompt, strict=True)
    ]
    if arguments.num_beams > 1:
        for streamer, ids in zip(streamers, generate(network, prompts, **options), strict=True):
            streamer.ids = ids
    else:
        generate(network, prompts, stream=lambda i, token: streamers[i].add(token), **options)
    if is_single:
        streamers[0].finish()
        _write("\n")
        return
    _write("---\n".join(f"{streamer.text()}\n" for streamer in streamers))


def _print_answers(
    network: Any,
    prompts: list[list[int]],
    tokenizer: Any,
    stop: Sequence[str],
    options: dict[str, Any],
) -> None:
    """Print the answer to each prompt, one per line."""
    from graphformer.tasks.text.few_shot import first_token

    for ids in network.generate(prompts, start_id=first_token(network, tokenizer), **options):
        text = tokenizer.decode(ids)
        _write(text[: _stop_position(text, stop)] + "\n")


class TextStreamer:
    """Decodes generated tokens into text that is shown as soon as it is final.

    Text that may still become part of a stop string, and characters with missing bytes, are shown
    later.

    Args:
        tokenizer: has `decode`.
        ids: tokens of the prompt.
        prompt: the prompt, which is shown with the first token.
        stop: strings that end the text; they are not shown.
        show: called with each new piece.
    """

    def __init__(
        self,
        tokenizer: Any,
        ids: list[int],
        prompt: str,
        stop: Sequence[str],
        show: Callable[[str], None],
    ) -> None:
        self.tokenizer, self.ids, self.prompt, self.stop = tokenizer, list(ids), prompt, stop
        self.show, self.num_shown = show, 0
        self.prompt_length = len(tokenizer.decode(ids))  # may differ from len(prompt)
        self.num_delayed = max((len(string) - 1 for string in stop), default=0)
        self.pending_prompt = prompt

    def add(self, token: int) -> bool:
        """Add a token; return whether the text ends with it."""
        self.ids.append(token)
        text = self._generated()
        end = _stop_position(text, self.stop)
        if end < len(text):
            self._show_up_to(text[:end])
            return True
        final = text.rstrip("\ufffd")  # the decoded form of incomplete bytes
        self._show_up_to(final[: max(len(final) - self.num_delayed, 0)])
        return False

    def finish(self) -> None:
        """Show the rest of the text."""
        text = self._generated()
        self._show_up_to(text[: _stop_position(text, self.stop)])

    def text(self) -> str:
        """Return the prompt and the generated text."""
        text = self._generated()
        return self.prompt + text[: _stop_position(text, self.stop)]

    def _generated(self) -> str:
        return str(self.tokenizer.decode(self.ids))[self.prompt_length :]

    def _show_up_to(self, text: str) -> None:
        if len(text) > self.num_shown or self.pending_prompt:
            self.show(self.pending_prompt + text[self.num_shown :])
            self.pending_prompt, self.num_shown = "", max(self.num_shown, len(text))


def _stop_position(text: str, stop: Sequence[str]) -> int:
    """Return where the first stop string begins, or the length of the text."""
    positions = [text.find(string) for string in stop]
    return min((position for position in positions if position >= 0), default=len(text))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _discard(text: str) -> None:
    """Show nothing, for texts that are generated in parallel."""


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("generate", "Continue texts with a trained language model.")
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, a run's or a Hugging Face folder")
    add("--prompt", required=True, action="append", help="the text to continue; may be repeated")
    add("--max-new-tokens", type=int, default=200, help="the maximum number of new tokens")
    add("--temperature", type=float, default=0.8, help="0: the most likely token")
    add("--top-k", type=int, help="sample from this number of most likely tokens")
    add(
        "--weight-dtype",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16 rounds the weights on a CPU, which is faster",
    )
    add("--top-p", type=float, help="sample from this share of the probability")
    add("--repetition-penalty", type=float, help="that of the checkpoint by default, or 1: none")
    add("--num-beams", type=int, default=1, help="above 1: beam search")
    add("--stop", action="append", default=[], help="ends a text; may be repeated")
    add("--chat", action="store_true", help="answer each prompt by the model's chat template")
    add("--system", help="--chat: the system's message")
    add("--seed", type=int, help="of the samples")
    arguments = parser.parse_args(list(argv))
    if not all(arguments.stop):
        raise UsageError("generate: --stop: got an empty string, expected the end of a text")
    return arguments
