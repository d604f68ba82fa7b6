"""GGUF files: checkpoints of llama.cpp."""

from graphformer.pretrained.gguf.file import GGUFFile
from graphformer.pretrained.gguf.tokenizer import read_gguf_tokenizer

__all__ = ["GGUFFile", "read_gguf_tokenizer"]
