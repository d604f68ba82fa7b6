"""When a text has ended."""

from __future__ import annotations

from collections.abc import Sequence


class StoppingCriteria:
    """Tells a text that has ended: by its last tokens, or by its length.

    Args:
        eos_token_id: the token that ends a text, or several of which each does.
        stop: sequences of tokens that do.
        max_new_tokens: how many tokens a prompt is followed by at most.
    """

    def __init__(
        self,
        eos_token_id: int | Sequence[int] | None,
        stop: Sequence[Sequence[int]],
        max_new_tokens: int,
    ) -> None:
        self.max_new_tokens = max_new_tokens
        tokens = (
            []
            if eos_token_id is None
            else [eos_token_id]
            if isinstance(eos_token_id, int)
            else eos_token_id
        )
        self.ends = [list(end) for end in stop] + [[token] for token in tokens]
        if any(not end for end in self.ends):
            raise ValueError("stop must hold sequences of at least one token, got an empty one")

    def __call__(self, text: list[int], prompt_length: int) -> bool:
        """Whether the text ends here; its prompt does not count."""
        count = len(text) - prompt_length
        return count >= self.max_new_tokens or self.said(text, prompt_length)

    def said(self, text: list[int], prompt_length: int) -> bool:
        """Whether the text's last new tokens say that it ends."""
        count = len(text) - prompt_length
        return any(len(end) <= count and text[-len(end) :] == end for end in self.ends)
