"""Tokens guessed ahead: what followed the last few of a text when they came before.

Reading the weights takes most of a step's time, for one token or for eight. Guessed tokens go
through the network with the known one, and those that it would have chosen are kept: the text is
the same, and a text that repeats itself takes fewer steps.
"""

from __future__ import annotations

LONGEST, SHORTEST = 4, 2  # tokens that must have come before
MOST = 7  # with the known one, the rows of the kernel for few rows
LONGEST_PAUSE = 32


class PromptLookup:
    """PromptLookup for one text, the more the better the last ones were.

    Args:
        text: the token ids of the prompt.

    Source: Saxena, 2023 (prompt lookup decoding); Leviathan et al., 2023 (checking guesses).
    """

    def __init__(self, text: list[int]) -> None:
        self.text: list[int] = []
        self.followed: dict[tuple[int, ...], int] = {}  # where what followed last time begins
        self.count, self.pause, self.waiting = 1, 0, 0
        for token in text:
            self.add(token)

    def add(self, token: int) -> None:
        """The text has a new token."""
        for length in range(SHORTEST, min(LONGEST, len(self.text)) + 1):
            self.followed[tuple(self.text[-length:])] = len(self.text)
        self.text.append(token)

    def next(self, most: int) -> list[int]:
        """Up to `most` tokens that may follow; none where nothing is known or worth a try."""
        if self.waiting:
            self.waiting -= 1
            return []
        for length in range(min(LONGEST, len(self.text)), SHORTEST - 1, -1):
            place = self.followed.get(tuple(self.text[-length:]))
            if place is not None:
                period = len(self.text) - place  # a guess that reaches the end goes round
                count = min(self.count, most)
                return [self.text[place + i % period] for i in range(count)]
        return []

    def judge(self, right: int, given: int) -> None:
        """Learn that the first `right` of the tokens `given` were so."""
        if right == given:
            self.count = min(2 * self.count, MOST)
        elif right:
            self.count = right
        else:  # do not try again for a while, and longer each time
            self.count, self.pause = 1, min(2 * self.pause + 1, LONGEST_PAUSE)
            self.waiting = self.pause
        if right:
            self.pause = 0
