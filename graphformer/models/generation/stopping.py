"""Stopping criteria: end-of-text tokens, stop sequences and strings, and the maximal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class StoppingCriteria:
    """Decides whether a generated text is complete.

    Args:
        eos_token_id: the token that ends a text, or several such tokens.
        stop: token sequences that end a text, or strings, which end it wherever they occur in the
            decoded continuation.
        max_new_tokens: the maximal number of generated tokens.
        decode: token ids to text; needed for stop strings.

    Raises:
        ValueError: when a stop sequence is empty, or is a string and there is no `decode`.
    """

    def __init__(
        self,
        eos_token_id: int | Sequence[int] | None,
        stop: Sequence[Sequence[int] | str],
        max_new_tokens: int,
        decode: Callable[[list[int]], str] | None = None,
    ) -> None:
        if isinstance(stop, str):
            stop = [stop]
        single = [sequence for sequence in stop if isinstance(sequence, int)]
        if single:
            raise TypeError(
                f"stop: got the token id {single[0]}, expected sequences of ids or strings; pass "
                f"stop=[[{single[0]}]], or eos_token_id"
            )
        if any(len(sequence) == 0 for sequence in stop):
            raise ValueError(
                "stop: got an empty sequence, expected sequences of one token or more; leave it out"
            )
        self.strings = [each for each in stop if isinstance(each, str)]
        if self.strings and decode is None:
            raise ValueError(
                f"stop: got the string {self.strings[0]!r} for a network without a tokenizer, "
                "expected token ids; encode it first"
            )
        eos = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or ()
        self.sequences = [list(each) for each in stop if not isinstance(each, str)]
        self.sequences += [[token] for token in eos]
        self.max_new_tokens, self.decode = max_new_tokens, decode

    def __call__(self, text: list[int], prompt_length: int) -> bool:
        """Whether a text, its prompt included, ends with its last token.

        Only tokens after the prompt count.
        """
        count = len(text) - prompt_length
        if count >= self.max_new_tokens:
            return True
        if any(len(end) <= count and text[-len(end) :] == end for end in self.sequences):
            return True
        if not self.strings or self.decode is None:
            return False
        continuation = self.decode(text[prompt_length:])
        return any(string in continuation for string in self.strings)
