"""Prompt lookup: draft tokens copied from an earlier occurrence of the text's last tokens.

A decoding step reads all weights, whether for one token or for eight. Draft tokens are verified
together with the last token in one step, and the longest correct prefix is accepted, so the result
does not change while repetitive texts need fewer steps.
"""

from __future__ import annotations

MIN_NGRAM, MAX_NGRAM = 2, 4
"""Lengths of the n-grams that are looked up."""
MAX_DRAFT = 7
"""With the last token, 8 rows: one pass of the CPU kernel for few rows."""
MAX_PAUSE = 32
"""Upper limit of the steps without a draft after rejected ones."""


class PromptLookup:
    """Proposes draft tokens for one text; their number adapts to how many were accepted.

    Args:
        text: token ids of the prompt.

    Source: Saxena, 2023 (prompt lookup decoding); Leviathan et al., 2023 (verification).
    """

    def __init__(self, text: list[int]) -> None:
        self.text: list[int] = []
        self.followers: dict[tuple[int, ...], int] = {}  # n-gram -> index of the token after it
        self.draft_length, self.pause, self.steps_to_wait = 1, 0, 0
        for token in text:
            self.append(token)

    def append(self, token: int) -> None:
        """Add a token to the text."""
        for length in range(MIN_NGRAM, min(MAX_NGRAM, len(self.text)) + 1):
            self.followers[tuple(self.text[-length:])] = len(self.text)
        self.text.append(token)

    def propose(self, limit: int) -> list[int]:
        """Return up to `limit` draft tokens; none during a pause or without a match."""
        if self.steps_to_wait:
            self.steps_to_wait -= 1
            return []
        for length in range(min(MAX_NGRAM, len(self.text)), MIN_NGRAM - 1, -1):
            start = self.followers.get(tuple(self.text[-length:]))
            if start is not None:
                period = len(self.text) - start  # past the end of the text, the draft repeats
                count = min(self.draft_length, limit)
                return [self.text[start + i % period] for i in range(count)]
        return []

    def update(self, accepted: int, proposed: int) -> None:
        """Adapt the length of drafts: `accepted` of `proposed` tokens were correct."""
        if accepted == proposed:
            self.draft_length = min(2 * self.draft_length, MAX_DRAFT)
        elif accepted:
            self.draft_length = accepted
        else:  # exponential back-off
            self.draft_length, self.pause = 1, min(2 * self.pause + 1, MAX_PAUSE)
            self.steps_to_wait = self.pause
        if accepted:
            self.pause = 0
