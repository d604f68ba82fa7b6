"""`graphformer generate`: text from a trained language model, shown while it is written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Continue the prompts, or answer them where the model is an encoder-decoder; return 0.

    Raises:
        UsageError: the arguments, the prompts or the checkpoint are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.errors import plain_errors
    from graphformer.models import EncoderDecoder, Model
    from graphformer.models.generation import decoding_options
    from graphformer.models.text.recurrent import RecurrentModel

    with plain_errors():
        ckpt = find_checkpoint(arguments.ckpt, "generate")
        task, tokenizer = restore_task(ckpt), restore_text_tokenizer(ckpt)
        if not isinstance(task.network, EncoderDecoder | Model | RecurrentModel):
            raise UsageError(f"generate: the network of {ckpt} writes no text")
        prompts = [tokenizer.encode(prompt).tolist() for prompt in arguments.prompt]
        if not all(prompts):
            raise UsageError("generate: --prompt is empty: give the model something to go on from")
        options = _options(arguments, tokenizer)
        if isinstance(task.network, EncoderDecoder):
            _answer(task.network, prompts, tokenizer, arguments.stop, options)
        else:
            options |= decoding_options(task.network, task.adjacency)
            _continue(task.network, prompts, tokenizer, arguments, options)
    return 0


def _options(arguments: argparse.Namespace, tokenizer: Any) -> dict[str, Any]:
    return {
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "repetition_penalty": arguments.repetition_penalty,
        "num_beams": arguments.num_beams,
        "eos_token_id": tokenizer.eos_id,
        "seed": arguments.seed,
    }


def _continue(
    network: Any,
    prompts: list[list[int]],
    tokenizer: Any,
    arguments: argparse.Namespace,
    options: dict[str, Any],
) -> None:
    """Print each prompt with what follows it; a single one while it is written."""
    from graphformer.models import generate

    alone = len(prompts) == 1 and arguments.num_beams == 1
    show = _write if alone else _keep_quiet
    texts = [
        TextStreamer(tokenizer, ids, prompt, arguments.stop, show)
        for ids, prompt in zip(prompts, arguments.prompt, strict=True)
    ]
    if arguments.num_beams > 1:
        for text, ids in zip(texts, generate(network, prompts, **options), strict=True):
            text.ids = ids
    else:
        generate(network, prompts, stream=lambda i, token: texts[i].add(token), **options)
    for number, text in enumerate(texts):
        if alone:
            text.finish()
            _write("\n")
        else:
            _write(("" if number == 0 else "---\n") + text.whole() + "\n")


def _answer(
    network: Any,
    prompts: list[list[int]],
    tokenizer: Any,
    stop: Sequence[str],
    options: dict[str, Any],
) -> None:
    """Print the answer to each prompt on a line of its own."""
    for ids in network.generate(prompts, start_id=tokenizer.need("bos"), **options):
        text = tokenizer.decode(ids)
        _write(text[: _end(text, stop)] + "\n")


class TextStreamer:
    """A text while it is written: shown as far as it is certain, cut at a stop string.

    Args:
        tokenizer: has `decode`.
        ids: the prompt's tokens.
        prompt: the prompt itself, which is shown with the first token.
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
        self.show, self.shown = show, 0
        self.skipped = len(tokenizer.decode(ids))
        # What may yet turn out to be a stop string is held back.
        self.held = max((len(end) - 1 for end in stop), default=0)
        self.before = prompt

    def add(self, token: int) -> bool:
        """Take a new token; whether the text ends with it."""
        self.ids.append(token)
        new = self._new()
        end = _end(new, self.stop)
        if end < len(new):
            self._advance(new[:end])
            return True
        certain = new.rstrip("\ufffd")  # a character whose bytes are not all there yet
        self._advance(certain[: max(len(certain) - self.held, 0)])
        return False

    def finish(self) -> None:
        """Show what was held back."""
        new = self._new()
        self._advance(new[: _end(new, self.stop)])

    def whole(self) -> str:
        """The prompt and all that was written."""
        new = self._new()
        return self.prompt + new[: _end(new, self.stop)]

    def _new(self) -> str:
        return str(self.tokenizer.decode(self.ids))[self.skipped :]

    def _advance(self, text: str) -> None:
        if len(text) > self.shown or self.before:
            self.show(self.before + text[self.shown :])
            self.before, self.shown = "", max(self.shown, len(text))


def _end(text: str, stop: Sequence[str]) -> int:
    """Where the first stop string begins, or the text's length."""
    found = [text.find(end) for end in stop]
    return min((place for place in found if place >= 0), default=len(text))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _keep_quiet(text: str) -> None:
    """Nothing is shown of texts that are written side by side."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"generate: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="graphformer generate",
        description="Continue texts with a trained language model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument(
        "--prompt", required=True, action="append", help="what to go on from; may be repeated"
    )
    parser.add_argument("--max-new-tokens", type=int, default=200, help="how many at most")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
    parser.add_argument("--top-k", type=int, help="draw among so many tokens")
    parser.add_argument("--top-p", type=float, help="draw among this share of the probability")
    parser.add_argument("--repetition-penalty", type=float, default=1.0)
    parser.add_argument("--num-beams", type=int, default=1, help="above 1: beam search")
    parser.add_argument("--stop", action="append", default=[], help="ends a text; may be repeated")
    parser.add_argument("--seed", type=int, help="of the draws")
    arguments = parser.parse_args(list(argv))
    if not all(arguments.stop):
        raise UsageError("generate: --stop is empty: give the text that ends what is written")
    return arguments
