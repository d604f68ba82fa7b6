"""The tokenizer of a checkpoint, and the other small files that belong to it."""

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
"""What is kept as it is, for whoever opens the folder that `save_pretrained` writes."""


def side_files(folder: Path) -> dict[str, str]:
    """The text of the small files of a folder, and of its subfolders' configs, by their names."""
    files = [folder / name for name in SIDE_FILES]
    files += sorted(folder.glob("[0-9]*_*/config.json"))
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in files
        if file.is_file()
    }
