"""Generation: tokens after tokens, greedily, by sampling or by beam search."""

from graphformer.models.generation.decoders import EncoderOutput, decoding_options
from graphformer.models.generation.generate import RENAMED, eval_mode, generate
from graphformer.models.generation.prompts import as_token_lists, max_length

__all__ = [
    "RENAMED",
    "EncoderOutput",
    "as_token_lists",
    "decoding_options",
    "eval_mode",
    "generate",
    "max_length",
]
