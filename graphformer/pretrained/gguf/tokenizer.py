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
    tokens: list[str] = file.get("tokenizer.ggml.tokens")
    if kind == "gpt2":
        backend = _byte_level(file, tokens)
    elif kind == "llama":
        backend = _sentence_piece(file, tokens)
    else:
        raise ValueError(
            f"{file.path}: got 'tokenizer.ggml.model': {kind!r}, expected 'gpt2' or 'llama'"
        )
    types = file.get("tokenizer.ggml.token_type", [])
    for token, number in zip(tokens, types, strict=False):
        if number in (CONTROL, USER_DEFINED):
            added = AddedToken(token, normalized=False, special=number == CONTROL)
            (backend.add_special_tokens if number == CONTROL else backend.add_tokens)([added])
    ids = {
        role: file.get(f"tokenizer.ggml.{name}_token_id")
        for role, name in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }
    roles = {role: tokens[number] for role, number in ids.items() if number is not None}
    if file.get("tokenizer.ggml.add_bos_token", kind == "llama") and "bos" in roles:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{roles['bos']} $A",
            pair=f"{roles['bos']} $A {roles['bos']} $B",
            special_tokens=[(roles["bos"], ids["bos"])],
        )
    return PretrainedTokenizer(backend, roles, chat_template=file.get("tokenizer.chat_template"))


def _byte_level(file: GGUFFile, tokens: Sequence[str]) -> tokenizers.Tokenizer:
    """Return a byte-level BPE with the merges and the split of the file."""
    merges = [tuple(merge.split(" ", 1)) for merge in file.get("tokenizer.ggml.merges", [])]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    split = file.get("tokenizer.ggml.pre", "default")
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
