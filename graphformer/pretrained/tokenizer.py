"""The tokenizer of a checkpoint, and the small files that are kept with its weights."""

from __future__ import annotations

from pathlib import Path

from graphformer.data.text.hf_tokenizer import PretrainedTokenizer, read_pretrained_tokenizer

__all__ = ["PretrainedTokenizer", "read_pretrained_tokenizer", "side_files"]

SIDE_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
"""Files that `save_pretrained` writes unchanged, for other libraries that read the folder."""


def side_files(folder: Path) -> dict[str, str]:
    """Return the text of the side files of a folder and of its modules' configs, by path."""
    files = [folder / name for name in SIDE_FILES]
    files += sorted(folder.glob("[0-9]*_*/config.json"))
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in files
        if file.is_file()
    }
