"""The tokenizer of a GGUF file, as one of the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from graphformer.data.text.hf_tokenizer import PretrainedTokenizer

if TYPE_CHECKING:
    from graphformer.pretrained.gguf.file import GGUFFile

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are found in a text before it is split; control tokens are special."""
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPLITS = {"llama-bpe": LLAMA3, "qwen2": QWEN2}
"""Regular expressions of the pieces within which bytes are merged, by their names in GGUF."""
DIGITS = ("smollm", "starcoder", "refact", "command-r")
"""Names of GPT-2's split with single digits."""
GPT2 = ("gpt-2", "default", "mpt", "olmo", "phi-2")
"""Names of GPT-2's split."""


def read_gguf_tokenizer(file: GGUFFile) -> PretrainedTokenizer | None:
    """Return the tokenizer of a file with its chat template, or None without one.

    Raises:
        ValueError: when its kind is not supported.
    """
    kind = file.get("tokenizer.ggml.model")
    if kind is None:
        return None
    makers = {"gpt2": _byte_level, "llama": _sentence_piece}
    if kind not in makers:
        raise ValueError(
            f"{file.path}: got 'tokenizer.ggml.model': {kind!r}, expected 'gpt2' or 'llama'"
        )
    tokens = _tokens(file)
    backend = makers[kind](file, tokens)
    types = file.get("tokenizer.ggml.token_type", [])
    for token, number in zip(tokens, types, strict=False):
        if number in (CONTROL, USER_DEFINED):
            added = AddedToken(token, normalized=False, special=number == CONTROL)
            (backend.add_special_tokens if number == CONTROL else backend.add_tokens)([added])
    roles = _roles(file, tokens)
    _add_template(file, kind, backend, roles)
    return PretrainedTokenizer(backend, roles, chat_template=file.get("tokenizer.chat_template"))


def _tokens(file: GGUFFile) -> list[str]:
    """Return the tokens of a file, of which there are no more than rows of the embedding.

    Raises:
        ValueError: when there are none or more.
    """
    tokens: list[str] = file.get("tokenizer.ggml.tokens", [])
    rows = file.config()["vocab_size"]
    if not 0 < len(tokens) <= rows:
        raise ValueError(
            f"{file.path}: got {len(tokens)} tokens in 'tokenizer.ggml.tokens', expected 1 to "
            f"{rows}, the rows of the embedding; use another file of the model"
        )
    return tokens


def _roles(file: GGUFFile, tokens: Sequence[str]) -> dict[str, str]:
    """Return the tokens of roles, such as "bos".

    Raises:
        ValueError: when one is outside the tokens.
    """
    roles = {}
    for role, name in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        number = file.get(f"tokenizer.ggml.{name}_token_id")
        if number is None:
            continue
        if not 0 <= number < len(tokens):
            raise ValueError(
                f"{file.path}: got 'tokenizer.ggml.{name}_token_id': {number}, expected one of the "
                f"{len(tokens)} tokens"
            )
        roles[role] = tokens[number]
    return roles


def _add_template(
    file: GGUFFile, kind: str, backend: tokenizers.Tokenizer, roles: dict[str, str]
) -> None:
    """Add the first and the last token to texts, where the file says so.

    Without a setting, the first one is added as in llama.cpp: by kind, and for Llama 3.
    """
    by_kind = kind == "llama" or file.get("tokenizer.ggml.pre") == "llama-bpe"
    used = {
        "bos": file.get("tokenizer.ggml.add_bos_token", by_kind),
        "eos": file.get("tokenizer.ggml.add_eos_token", False),
    }
    first, last = (roles[role] if used[role] and role in roles else "" for role in ("bos", "eos"))
    if not (first or last):
        return
    single = f"{first} $A {last}".strip()
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=f"{single} {single.replace('$A', '$B')}",
        special_tokens=[(token, backend.token_to_id(token)) for token in {first, last} - {""}],
    )


def _byte_level(file: GGUFFile, tokens: Sequence[str]) -> tokenizers.Tokenizer:
    """Return a byte-level BPE with the merges and the split of the file."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    split = file.get("tokenizer.ggml.pre", "default")
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(file, vocabulary),
            ignore_merges=split == "llama-bpe",  # as in llama.cpp
        )
    )
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split not in SPLITS)
    steps: list[pre_tokenizers.PreTokenizer] = [byte_level]
    if split in SPLITS:
        steps.insert(0, pre_tokenizers.Split(Regex(SPLITS[split]), "isolated"))
    elif split in DIGITS:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif split not in GPT2:
        raise ValueError(
            f"{file.path}: got 'tokenizer.ggml.pre': {split!r}, expected one of "
            f"{', '.join((*SPLITS, *DIGITS, *GPT2))}"
        )
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend


def _merges(file: GGUFFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the pairs of tokens that are merged, in order.

    Raises:
        ValueError: when one is no pair of tokens whose union is a token.
    """
    merges = []
    for merge in file.get("tokenizer.ggml.merges", []):
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise ValueError(
                f"{file.path}: got {merge!r} in 'tokenizer.ggml.merges', expected two tokens that "
                "are a token together"
            )
        merges.append((left, right))
    return merges


def _sentence_piece(file: GGUFFile, tokens: Sequence[str]) -> tokenizers.Tokenizer:
    """Return a BPE that merges the pieces of the highest score first, as SentencePiece does."""
    scores: list[float] = file.get("tokenizer.ggml.scores", [0.0] * len(tokens))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    found = []
    for number, piece in enumerate(tokens):
        for cut in range(1, len(piece)):
            left, right = vocabulary.get(piece[:cut]), vocabulary.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-scores[number], left, right))
    merges = [(tokens[left], tokens[right]) for _, left, right in sorted(found)]
    unknown = file.get("tokenizer.ggml.unknown_token_id")
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    has_prefix = file.get("tokenizer.ggml.add_space_prefix", True)
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    ends: list[decoders.Decoder] = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if has_prefix:
        steps.insert(0, normalizers.Prepend("▁"))
        ends.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence(ends)
    return backend
