"""`Cloze`: a template with a gap, and the word in the gap for each class."""

from __future__ import annotations

import string
from collections.abc import Mapping

import numpy as np
import torch

from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.tokenizer import Tokenizer

FIELDS = ("text", "mask")


class Cloze:
    """A template with a gap and a verbaliser: the word in the gap for each class.

    A masked language model predicts the word at the mask; a decoder predicts it after the last
    token of the template, which ends with the gap. Blanks before the gap belong to the word, as in
    byte-level tokenizers.

    Args:
        template: with {text} and {mask} once each; braces elsewhere are written twice.
        words: the word of each class, which is one token where the gap is.
        tokenizer: of the network.
        causal: whether the network is a decoder.

    Attributes:
        answer_ids: token of each class, in the order of `words`, int64 [K].

    Raises:
        ValueError: when the template has no gap or no text, when it continues after the gap of a
            decoder, or when a word is several tokens or the word of two classes.

    Source: Schick and Schuetze, 2021, "Exploiting Cloze Questions", section 3.
    """

    def __init__(
        self, template: str, words: Mapping[str, str], tokenizer: Tokenizer, *, causal: bool
    ) -> None:
        head, tail = split_template(template, causal=causal)
        self.tokenizer, self.causal = tokenizer, causal
        self.head, self.tail = head.rstrip(" "), tail
        self.gap = head[len(self.head) :]
        self.mask_id = -1 if causal else tokenizer.need("mask")
        self.answer_ids = torch.tensor([self._word_id(word) for word in words.values()])
        if len(set(self.answer_ids.tolist())) < len(words):
            raise ValueError(
                f"words: got {dict(words)}, expected another token for each class; change the "
                "words that share one"
            )

    def encode(self, text: str, max_length: int) -> tuple[np.ndarray, int]:
        """Return the ids of a text in the template, and the node that predicts the word.

        A text is cut at its end so that the whole has at most `max_length` tokens.

        Raises:
            ValueError: when the template alone is longer.
        """
        ids, node = self._encode(text)
        while len(ids) > max_length and text:
            offsets = self.tokenizer.backend.encode(text, add_special_tokens=False).offsets
            keep = len(offsets) - (len(ids) - max_length)
            text = text[: offsets[keep][0]] if 0 < keep < len(offsets) else ""
            ids, node = self._encode(text)
        if len(ids) > max_length:
            raise ValueError(
                f"max_length: got {max_length}, expected {len(ids)} or more, the length of the "
                "template; increase it"
            )
        return ids, node

    def _encode(self, text: str) -> tuple[np.ndarray, int]:
        before = self._ids(fill_text(self.head, text))
        if self.causal:
            return before, len(before) - 1
        after = self._ids(fill_text(self.tail, text), begins=False)
        return np.concatenate([before, [self.mask_id], after]), len(before)

    def _ids(self, text: str, *, begins: bool = True) -> np.ndarray:
        """Return the ids of the part before the gap, or after it, with special tokens."""
        if not isinstance(self.tokenizer, PretrainedTokenizer):
            return self.tokenizer.encode(text).numpy()
        plain = self.tokenizer.encode_plain([text])[0].tolist()
        first, last = self._special_ids()
        return np.array([*first, *plain] if begins else [*plain, *last], np.int64)

    def _special_ids(self) -> tuple[list[int], list[int]]:
        """Return the special tokens that a checkpoint adds before and after a text."""
        ids = self.tokenizer.encode("a").tolist()
        size = len(self.tokenizer.encode_plain(["a"])[0])
        first = len(self.tokenizer.encode_prompt("a")) - size
        return ids[:first], ids[first + size :]

    def _word_id(self, word: str) -> int:
        """Return the token of a word after the literal text before the gap."""
        context = fill_text(self.head.rpartition("{text}")[2], "")
        parts = self.tokenizer.encode_plain([context, f"{context}{self.gap}{word}"])
        before, ids = (part.tolist() for part in parts)
        if ids[: len(before)] != before or len(ids) != len(before) + 1:
            raise ValueError(
                f"words: got {word!r}, which is {max(len(ids) - len(before), 0)} tokens after "
                f"{context!r}, expected one token; choose another word"
            )
        return int(ids[-1])


def split_template(template: str, *, causal: bool) -> tuple[str, str]:
    """Return the parts of a template before and after its gap, which ends it for a decoder.

    Raises:
        ValueError: when the template does not have {text} and {mask} once each, or when it
            continues after the gap of a decoder.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"template: got {template!r} ({error}), expected {{text}} and {{mask}}; write other "
            "braces twice"
        ) from None
    fields = [f"{name}{spec}{form or ''}" for _, name, spec, form in pieces if name is not None]
    if sorted(fields) != sorted(FIELDS):
        raise ValueError(
            f"template: got {template!r}, expected {{text}} and {{mask}} once each; change it"
        )
    if causal and pieces[-1][1] != "mask":
        raise ValueError(
            f"template: got {template!r}, expected {{mask}} at its end, because a decoder predicts "
            "the next token; move it, or set causal to false for a masked language model"
        )
    parts = [""]
    for literal, name, _, _ in pieces:
        parts[-1] += literal.replace("{", "{{").replace("}", "}}")
        if name == "text":
            parts[-1] += "{text}"
        elif name == "mask":
            parts.append("")
    return parts[0], parts[1]


def fill_text(part: str, text: str) -> str:
    """Return a part of a template with its text, without blanks around that, in place of {text}."""
    return part.format(text=text.strip())
