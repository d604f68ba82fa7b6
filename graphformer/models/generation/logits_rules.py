"""Rules of decoding: tokens that may not come next, and tokens that must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogitsRules:
    """Which tokens may follow a text; the fields are arguments of `generate`, described there.

    Raises:
        ValueError: when a number is out of its range, or a token id is none.
    """

    max_new_tokens: int
    eos_token_id: int | Sequence[int] | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    suppress_tokens: Sequence[int] = ()
    begin_suppress_tokens: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("min_length", "no_repeat_ngram_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: got {value!r}, expected a whole number; 0 is off")
        least, most = self.min_new_tokens, self.max_new_tokens
        if least is not None and not (isinstance(least, int) and 0 <= least <= most):
            raise ValueError(
                f"min_new_tokens: got {least!r}, expected a whole number from 0 to max_new_tokens, "
                f"{most}; pass a smaller one, or None"
            )
        if not all(self.bad_words_ids):
            raise ValueError(
                "bad_words_ids: got an empty word, expected one token or more in each; leave it out"
            )

    @property
    def is_active(self) -> bool:
        """Whether any rule can change logits."""
        return self != LogitsRules(self.max_new_tokens, self.eos_token_id)

    def check_vocab_size(self, size: int) -> None:
        """Check the tokens that are forced against the number of tokens.

        Raises:
            ValueError: when there is no such token.
        """
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            for token in as_ids(getattr(self, name)):
                if not (isinstance(token, int) and 0 <= token < size):
                    raise ValueError(
                        f"{name}: got {token!r}, expected a token id from 0 to {size - 1}; pass "
                        "one of the model's tokenizer, or None"
                    )


def apply_rules(
    logits: Tensor, texts: Sequence[list[int]], prompt_lengths: Sequence[int], rules: LogitsRules
) -> Tensor:
    """Return logits [B, K] with minus infinity for tokens that may not follow their text.

    Args:
        logits: of the next tokens, [B, K].
        texts: token ids of each text so far, its prompt included, B lists.
        prompt_lengths: number of tokens of each prompt, B ints.
        rules: which tokens may follow. The order is that of `transformers`: a forced token
            overrides all rules but `suppress_tokens` and `begin_suppress_tokens`.

    Raises:
        ValueError: when no token may follow a text.
    """
    if not rules.is_active:
        return logits
    rules.check_vocab_size(logits.shape[1])
    rows = []
    for row, text, start in zip(logits, texts, prompt_lengths, strict=True):
        forced = forced_tokens(text, start, rules)
        if forced:
            row = keep_tokens(row, forced)
        else:
            row = forbid_tokens(row, forbidden_tokens(text, start, rules))
        rows.append(forbid_tokens(row, suppressed_tokens(text, start, rules)))
    allowed = torch.stack(rows)
    if bool((allowed == -torch.inf).all(1).any()):
        raise ValueError(
            "no_repeat_ngram_size, bad_words_ids, suppress_tokens: got values that forbid every "
            "token after a text, expected one that may follow; relax one of them"
        )
    return allowed


def forbid_tokens(logits: Tensor, tokens: set[int]) -> Tensor:
    """Return logits [K] with minus infinity for the tokens; ids that are no tokens are ignored."""
    index = [token for token in tokens if 0 <= token < len(logits)]
    if not index:
        return logits
    return logits.index_fill(0, torch.tensor(index, device=logits.device), -torch.inf)


def keep_tokens(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return 0 for the tokens and minus infinity for all others, [K] of logits [K]."""
    kept = torch.full_like(logits, -torch.inf)
    return kept.index_fill(0, torch.tensor(list(tokens), device=logits.device), 0.0)


def forced_tokens(text: list[int], prompt_length: int, rules: LogitsRules) -> Sequence[int]:
    """Return the tokens of which one must follow a text; none if any may follow."""
    last = as_ids(rules.forced_eos_token_id)
    if last and len(text) - prompt_length == rules.max_new_tokens - 1:
        return last
    return as_ids(rules.forced_bos_token_id) if len(text) == 1 else ()


def forbidden_tokens(text: list[int], prompt_length: int, rules: LogitsRules) -> set[int]:
    """Return the tokens that may not follow a text unless they are forced."""
    ends, shortest = as_ids(rules.eos_token_id), rules.min_length
    if rules.min_new_tokens is not None:
        shortest = prompt_length + rules.min_new_tokens
    tokens = repeated_ngrams(text, rules.no_repeat_ngram_size)
    words = [word for word in rules.bad_words_ids if list(word) not in [[end] for end in ends]]
    tokens |= {word[-1] for word in words if follows(text, word[:-1])}
    return tokens | set(ends) if len(text) < shortest else tokens


def suppressed_tokens(text: list[int], prompt_length: int, rules: LogitsRules) -> set[int]:
    """Return the tokens that may not follow a text even if they are forced."""
    begin = prompt_length + (prompt_length == 1 and rules.forced_bos_token_id is not None)
    tokens = set(rules.suppress_tokens)
    return tokens | set(rules.begin_suppress_tokens) if len(text) == begin else tokens


def repeated_ngrams(text: list[int], size: int) -> set[int]:
    """Return the tokens that would complete an n-gram of this size that the text has."""
    if size < 1 or len(text) < size:
        return set()
    suffix = text[len(text) + 1 - size :]
    starts = range(len(text) - size + 1)
    return {text[i + size - 1] for i in starts if text[i : i + size - 1] == suffix}


def follows(text: list[int], suffix: Sequence[int]) -> bool:
    """Whether a text ends with these tokens; true without any."""
    return len(text) >= len(suffix) and text[len(text) - len(suffix) :] == list(suffix)


def as_ids(tokens: int | Sequence[int] | None) -> Sequence[int]:
    """Return one token or several as a sequence; an empty one for None."""
    return (tokens,) if isinstance(tokens, int) else tokens or ()
